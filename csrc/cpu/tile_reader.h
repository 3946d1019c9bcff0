// Tensors to tiles, with the next one copied while this one is computed.
#pragma once

#include <utility>

#include "feed.h"
#include "tile_io.h"

namespace jml::JML_ISA {

// The tiles of a tensor, one after the other.
template <typename T>
class TileReader {
 public:
  T* tile = nullptr;   // classes x stride
  T* ahead = nullptr;  // room for as much

  TileReader(const TensorView& view, const Arguments& args, int64_t stride, Run*& room)
      : view(view), args(args), stride(stride), room(room) {}

  // Makes `tile` hold these pixels, rows padded with 0 to `padded`.
  void load(const Pixels& pixels, int padded) {
    const int64_t classes = args.classes;
    if (!(pixels == fed)) {
      load_tile(view, pixels.image, runs(pixels), classes, tile, stride);
    } else if (turned) {
      load_tile(packed(1), 0, Runs(classes, pixels.count, room), classes, tile, stride);
    } else if (holds<T>(view)) {
      std::swap(tile, ahead);
    } else {
      load_tile(packed(stride), 0, Runs(1, pixels.count, room), classes, tile, stride);
    }
    fed = Pixels();
    for (int64_t c = 0; pixels.count < padded && c < classes; ++c)
      fill(tile + c * stride + pixels.count, padded - pixels.count, T(0));
  }

  // The copying of the pixels that are to be loaded next; nothing where they do not lie in rows.
  Feed feed(const Pixels& next) {
    const int64_t bytes = view.element_bytes(), classes = args.classes;
    if (next.image < 0 || bytes > int64_t(sizeof(T))) return Feed();
    const Runs where = runs(next);
    turned = classes_side_by_side(view, where, classes);
    const int64_t row_bytes = next.count * bytes * (turned ? classes : 1);
    if (!where.single() || where.step != (turned ? classes : 1) || row_bytes % kPieceBytes)
      return Feed();
    fed = next;
    const auto* from = static_cast<const char*>(view.data) +
                       (next.image * view.image_stride + where.run[0].offset) * bytes;
    auto* to = reinterpret_cast<char*>(ahead);
    if (turned) return Feed(from, row_bytes, to, row_bytes, 1, row_bytes);
    return Feed(from, view.class_stride * bytes, to, stride * bytes, classes, row_bytes);
  }

 private:
  const TensorView& view;
  const Arguments& args;
  const int64_t stride;
  Run*& room;
  Pixels fed;           // what `ahead` holds
  bool turned = false;  // with its classes side by side

  Runs runs(const Pixels& pixels) const { return Runs(view, args.spatial, pixels, room); }

  // What `ahead` holds, as a tensor.
  TensorView packed(int64_t class_stride) const {
    TensorView rows;
    rows.data = ahead;
    rows.dtype = view.dtype;
    rows.class_stride = class_stride;
    return rows;
  }
};

}  // namespace jml::JML_ISA
