// Maps of the labels and of the predictions: how pixels get into them and out again, which pixels
// count, and which lie at a boundary.
//
// Shapes. P pixels of a tile, of which `count` are there and `padded` are computed.
#pragma once

#include "labels.h"
#include "tally_arguments.h"

namespace jml::JML_ISA {

// Where the pixels of a tile lie in a map.
inline int64_t place_in_map(const Arguments& args, const Pixels& pixels) {
  return pixels.image * args.pixels + pixels.first;
}

inline void store_codes(const TallyArguments& tally, const CodeMap& map, const Pixels& pixels,
                        const int32_t* __restrict code) {
  const int32_t classes = int32_t(tally.args.classes);
  const int count = pixels.count;
  visit_codes(map, [=, &tally, &pixels](auto* __restrict to) {
    to += place_in_map(tally.args, pixels);
    for (int i = 0; i < count; ++i) to[i] = code[i] == kOutOfRange ? classes : code[i];
  });
}

inline void load_codes(const TallyArguments& tally, const CodeMap& map, const Pixels& pixels,
                       int32_t* __restrict code) {
  const int32_t classes = int32_t(tally.args.classes);
  const int count = pixels.count;
  visit_codes(map, [=, &tally, &pixels](const auto* __restrict from) {
    from += place_in_map(tally.args, pixels);
    for (int i = 0; i < count; ++i) code[i] = from[i] == classes ? kOutOfRange : from[i];
  });
}

// ---- which pixels count --------------------------------------------------------------------

// A tile's pixels with their labels. One counts if its label is a class and the mask has it.
template <typename T>
class LabelledPixels {
 public:
  int count = 0, padded = 0;  // the same, up to a multiple of kRowStep
  int valid_count = 0;
  std::unique_ptr<T[]> valid;        // P  1 where a pixel counts, else 0
  std::unique_ptr<int32_t[]> code;   // P  kIgnored beyond `count`
  std::unique_ptr<int32_t[]> label;  // P  the class; where it does not count, the number of classes

  explicit LabelledPixels(const TallyArguments& tally)
      : valid(new T[tally.args.tile_pixels]),
        code(new int32_t[tally.args.tile_pixels]),
        label(new int32_t[tally.args.tile_pixels]),
        tally(tally) {}

  void load(const Pixels& pixels) {
    const Arguments& args = tally.args;
    count = pixels.count;
    padded = (count + kRowStep<T> - 1) / kRowStep<T> * kRowStep<T>;
    load_codes(tally, tally.labels, pixels, code.get());
    fill(code.get() + count, padded - count, kIgnored);
    fill(valid.get(), padded, T(1));
    if (args.mask.given) load_mask(args, pixels, valid.get());
    valid_count =
        place_labels(code.get(), 0, int32_t(args.classes), valid.get(), label.get(), padded);
  }

 private:
  const TallyArguments& tally;
};

// ---- boundaries ----------------------------------------------------------------------------

class MapBoundaries {
 public:
  explicit MapBoundaries(const Arguments& args)
      : args(args), size(args.tile_pixels + args.boundary_size), room(new int32_t[4 * size]) {}

  // 1 where a pixel of the map is at a boundary (find_boundary), else 0, also up to `padded`.
  void find(const CodeMap& map, const Pixels& pixels, int padded, int32_t* __restrict on_boundary) {
    const int count = pixels.count;
    visit_codes(map, [&, count, on_boundary](auto* data) {
      using Code = std::remove_pointer_t<decltype(data)>;
      auto* const codes = reinterpret_cast<Code*>(room.get());
      Code* const found = codes + 3 * size;
      const int64_t *full = args.spatial, image = pixels.image;
      find_boundary(args, pixels, codes, codes + size, codes + 2 * size, found,
                    [&](int64_t z, int64_t y, int64_t left, int64_t) {
                      return data + ((image * full[0] + z) * full[1] + y) * full[2] + left;
                    });
      for (int i = 0; i < count; ++i) on_boundary[i] = found[i];
    });
    fill(on_boundary + count, padded - count, int32_t(0));
  }

 private:
  const Arguments& args;
  const int64_t size;  // a window reaches beyond the tile
  std::unique_ptr<int32_t[]> room;
};

}  // namespace jml::JML_ISA
