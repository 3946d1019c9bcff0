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

JML_DEVICE int label_code(const Problem& problem, int64_t label) {
  return jml::label_code(label, problem.ignore_index, problem.label_count());
}

// Whether a pixel has another label in its window, and none that is ignored or no label (section
// 2.4.1 of the paper). A window that leaves the image is read at its edge, which it holds anyway.
// The labels come from cache: only their first reader waits for memory.
template <typename L>
JML_DEVICE bool at_boundary(const Arguments& args, const L* labels, int64_t pixel) {
  const Position at = locate(args, pixel);
  const int64_t reach = args.boundary_size / 2;
  const auto start = [&](int64_t place) { return int(place < reach ? place : reach); };
  const auto end = [&](int64_t place, int d) {
    const int64_t left = args.spatial[d] - 1 - place;
    return int(left < reach ? left : reach);
  };
  const int back = start(at.depth), forth = end(at.depth, 0), up = start(at.row),
            down = end(at.row, 1), left = start(at.column), right = end(at.column, 2);
  const L* const here = labels + offset_of(args.labels, at);
  int lowest = Code::kClass, highest = -1;
  for (int z = -back; z <= forth; ++z)
    for (int y = -up; y <= down; ++y) {
      const L* const line =
          here + z * args.labels.spatial_stride[0] + y * args.labels.spatial_stride[1];
      for (int x = -left; x <= right; ++x) {
        const int code = label_code(args, int64_t(line[x * args.labels.spatial_stride[2]]));
        lowest = code < lowest ? code : lowest;
        highest = code > highest ? code : highest;
      }
    }
  return lowest >= 0 && lowest < highest;
}

JML_DEVICE bool is_masked(const Arguments& args, const TileAt& at, int64_t pixel) {
  if (!args.mask.given) return false;
  const int64_t offset =
      at.image * args.mask.image_stride + offset_of(args, args.mask, args.read_mask, pixel);
  return !static_cast<const uint8_t*>(args.mask.data)[offset];
}

// But for boundaries.
template <bool kHard>
JML_DEVICE int code_of(const Arguments& args, const TileAt& at, int64_t value, int64_t pixel) {
  if (pixel >= args.pixels || is_masked(args, at, pixel)) return 0;
  const int label = label_code(args, value);
  if (label == kIgnored) return 0;
  // A label that is none makes the loss NaN. It takes the place of class 0, so that one is active.
  if (label == kOutOfRange) return Code::kValid | Code::kBad | 1;
  const bool smoothed = !kHard && args.off != 0 && args.boundary_size == 0;
  return Code::kValid | (smoothed ? Code::kSmoothed : 0) | (label + (args.binary() ? 0 : 1));
}

// The codes of the block's tile: of all pixels of a thread at once, whose loads do not wait for one
// another.
template <bool kHard, int V>
JML_DEVICE void write_codes(const Arguments& args, const TileAt& at, const Team& team, int* codes) {
  const auto pixel_of_slot = [&](int slot) {
    return pixel_of<V>(args, at, slot / kLanes, slot % kLanes);
  };
  if (!args.has_labels()) {
    for (int slot = team.rank(); slot < V * kLanes; slot += team.threads()) {
      const int64_t pixel = pixel_of_slot(slot);
      codes[slot] = pixel < args.pixels && !is_masked(args, at, pixel) ? Code::kValid : 0;
    }
    return;
  }
  int64_t values[V];
  visit_integer(args.labels, [&](const auto* labels) {
    labels += at.image * args.labels.image_stride;
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const int slot = v * team.threads() + team.rank();
      const int64_t pixel = pixel_of_slot(slot);
      values[v] = slot < V * kLanes && pixel < args.pixels
                      ? int64_t(labels[offset_of(args, args.labels, args.read_labels, pixel)])
                      : 0;
    }
  });
#pragma unroll
  for (int v = 0; v < V; ++v) {
    const int slot = v * team.threads() + team.rank();
    if (slot < V * kLanes) codes[slot] = code_of<kHard>(args, at, values[v], pixel_of_slot(slot));
  }
  if constexpr (!kHard) {
    if (args.off == 0 || args.boundary_size == 0) return;
    visit_integer(args.labels, [&](const auto* labels) {
      labels += at.image * args.labels.image_stride;
#pragma unroll 1
      for (int slot = team.rank(); slot < V * kLanes; slot += team.threads()) {
        const int code = codes[slot];
        if ((code & Code::kValid) && at_boundary(args, labels, pixel_of_slot(slot)))
          codes[slot] = code | Code::kSmoothed;
      }
    });
  }
}

}  // namespace jml::cuda
