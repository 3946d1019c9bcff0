// What is one number for each pixel, from labels and mask: a code, made once for the block's tile.
#pragma once

#include "tile_io.cuh"

namespace jml::cuda {

// The class whose place the label has, plus 1, or 0 where there is none (label 0 of a binary task);
// and whether the pixel counts, is smoothed, and has a label that is none.
struct Code {
  static constexpr int kClass = (1 << 29) - 1, kValid = 1 << 29, kSmoothed = 1 << 30;
  static constexpr int kBad = int(1u << 31);
};

// -1 for an ignored label, -2 for one that is none.
JML_DEVICE int label_code(const Problem& problem, int64_t label) {
  if (label == problem.ignore_index) return -1;
  return label >= 0 && label < problem.label_count() ? int(label) : -2;
}

// Whether a pixel has another label in its window, and none that is ignored or no label (section
// 2.4.1 of the paper). A window that leaves the image is read at its edge, which it holds anyway.
// The labels come from cache: only their first reader waits for memory.
JML_DEVICE bool at_boundary(const Arguments& args, int64_t image, int64_t pixel) {
  const Position at = locate(args, pixel);
  const int64_t reach = args.boundary_size / 2;
  const int64_t from[3] = {at.depth - reach, at.row - reach, at.column - reach};
  const int64_t to[3] = {at.depth + reach, at.row + reach, at.column + reach};
  const auto start = [&](int d) { return from[d] < 0 ? 0 : from[d]; };
  const auto end = [&](int d) { return to[d] < args.spatial[d] ? to[d] : args.spatial[d] - 1; };
  int lowest = Code::kClass, highest = -1;
  for (int64_t z = start(0); z <= end(0); ++z)
    for (int64_t y = start(1); y <= end(1); ++y)
      for (int64_t x = start(2); x <= end(2); ++x) {
        const int64_t offset = image * args.labels.image_stride + offset_of(args.labels, {z, y, x});
        const int code = label_code(args, load_integer(args.labels, offset));
        lowest = code < lowest ? code : lowest;
        highest = code > highest ? code : highest;
      }
  return lowest >= 0 && lowest < highest;
}

template <bool kHard>
JML_DEVICE int code_of(const Arguments& args, const TileAt& at, int64_t pixel) {
  if (pixel >= args.pixels) return 0;
  if (args.mask.given) {
    const int64_t offset =
        at.image * args.mask.image_stride + offset_of(args, args.mask, args.read_mask, pixel);
    if (!static_cast<const uint8_t*>(args.mask.data)[offset]) return 0;
  }
  if (!args.has_labels()) return Code::kValid;
  const int64_t offset =
      at.image * args.labels.image_stride + offset_of(args, args.labels, args.read_labels, pixel);
  const int label = label_code(args, load_integer(args.labels, offset));
  if (label == -1) return 0;
  // A label that is none makes the loss NaN. It takes the place of class 0, so that one is active.
  if (label == -2) return Code::kValid | Code::kBad | 1;
  const bool smoothed = !kHard && args.off != 0 &&
                        (args.boundary_size == 0 || at_boundary(args, at.image, pixel));
  return Code::kValid | (smoothed ? Code::kSmoothed : 0) | (label + (args.binary() ? 0 : 1));
}

template <bool kHard, int V>
JML_DEVICE void write_codes(const Arguments& args, const TileAt& at,
                                            const Team& team, int* codes) {
  for (int slot = team.rank(); slot < V * kLanes; slot += team.threads()) {
    const int64_t pixel = pixel_of<V>(args, at, slot / kLanes, slot % kLanes);
    codes[slot] = code_of<kHard>(args, at, pixel);
  }
}

}  // namespace jml::cuda
