// The code of each pixel: what its label and the mask say of it. A block makes the codes of its
// tile once, in shared memory.
#pragma once

#include "tile_io.cuh"

namespace jml::cuda {

// The low bits hold the class of the label plus 1, or 0 where no class is the label's (label 0 of a
// binary task). The flags say whether the pixel counts, whether its label is smoothed, and whether
// it is wrong: its label is out of range, or its dense target holds what is no probability. A wrong
// pixel makes the loss NaN. The last flag is for fast kernels, whether the thread has elements of
// the pixel that are ignored one by one.
struct Code {
  static constexpr int kClass = (1 << 28) - 1, kHasIgnored = 1 << 28, kValid = 1 << 29;
  static constexpr int kSmoothed = 1 << 30, kWrong = int(1u << 31);
};

JML_DEVICE int label_code(const Problem& problem, int64_t label) {
  return jml::label_code(label, problem.ignore_index, problem.label_count());
}

// Whether a pixel is at a boundary: its window holds another label, and none that is ignored or out
// of range (section 2.4.1 of the paper). The window is cut off at the edge of the image.
// The labels come from the cache: only the first thread that reads one waits for memory.
template <typename L>
JML_DEVICE bool at_boundary(const Arguments& args, const L* labels, int64_t pixel) {
  const Position position = locate(args, pixel);
  const int64_t radius = args.boundary_size / 2;
  const auto start = [&](int64_t place) { return int(place < radius ? place : radius); };
  const auto end = [&](int64_t place, int d) {
    const int64_t left = args.spatial[d] - 1 - place;
    return int(left < radius ? left : radius);
  };
  const int back = start(position.depth), forth = end(position.depth, 0);
  const int up = start(position.row), down = end(position.row, 1);
  const int left = start(position.column), right = end(position.column, 2);
  const L* const center = labels + offset_of(args.labels, position);
  int lowest = Code::kClass, highest = -1;
  for (int z = -back; z <= forth; ++z)
    for (int y = -up; y <= down; ++y) {
      const L* const line =
          center + z * args.labels.spatial_stride[0] + y * args.labels.spatial_stride[1];
      for (int x = -left; x <= right; ++x) {
        const int code = label_code(args, label_number(line[x * args.labels.spatial_stride[2]]));
        lowest = code < lowest ? code : lowest;
        highest = code > highest ? code : highest;
      }
    }
  return lowest >= 0 && lowest < highest;
}

JML_DEVICE bool is_masked(const Arguments& args, const TileRange& range, int64_t pixel) {
  if (!args.mask.given) return false;
  const int64_t offset =
      range.image * args.mask.image_stride + offset_of(args, args.mask, args.mask_access, pixel);
  return !static_cast<const uint8_t*>(args.mask.data)[offset];
}

// The code of a pixel from that of its label, before anything is known of boundaries.
template <bool kHard>
JML_DEVICE int code_of(const Arguments& args, const TileRange& range, int label, int64_t pixel) {
  if (pixel >= args.pixels || is_masked(args, range, pixel)) return 0;
  if (label == kIgnored) return 0;
  // A label out of range stands for class 0, so that all that comes of it is within the arrays.
  if (label == kOutOfRange) return Code::kValid | Code::kWrong | 1;
  const bool smoothed = !kHard && args.target_elsewhere != 0 && args.boundary_size == 0;
  return Code::kValid | (smoothed ? Code::kSmoothed : 0) | (label + (args.binary() ? 0 : 1));
}

// Writes the codes of the block's tile. A thread reads the labels of all its pixels before it uses
// the first, so that these loads do not wait for one another.
template <class C>
JML_DEVICE void write_codes(const Arguments& args, const TileRange& range, const Team& team,
                            int* codes) {
  constexpr int V = C::V;
  const auto pixel_of_place = [&](int place) {
    return pixel_of<C>(args, range, place / kLanes, place % kLanes);
  };
  if (!C::kLabels || !args.has_labels()) {
    for (int place = team.rank(); place < V * kLanes; place += team.threads()) {
      const int64_t pixel = pixel_of_place(place);
      codes[place] = pixel < args.pixels && !is_masked(args, range, pixel) ? Code::kValid : 0;
    }
    return;
  }
  int64_t values[V];
  visit_integer(args.labels, [&](const auto* labels) {
    labels += range.image * args.labels.image_stride;
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const int place = v * team.threads() + team.rank();
      const int64_t pixel = pixel_of_place(place);
      values[v] = place < V * kLanes && pixel < args.pixels
                      ? label_number(labels[offset_of(args, args.labels, args.labels_access, pixel)])
                      : 0;
    }
  });
#pragma unroll
  for (int v = 0; v < V; ++v) {
    const int place = v * team.threads() + team.rank();
    if (place < V * kLanes)
      codes[place] = code_of<C::kHard>(args, range, label_code(args, values[v]),
                                       pixel_of_place(place));
  }
  if constexpr (!C::kHard) {
    if (args.target_elsewhere == 0 || args.boundary_size == 0) return;
    visit_integer(args.labels, [&](const auto* labels) {
      labels += range.image * args.labels.image_stride;
#pragma unroll 1
      for (int place = team.rank(); place < V * kLanes; place += team.threads()) {
        const int code = codes[place];
        if ((code & Code::kValid) && at_boundary(args, labels, pixel_of_place(place)))
          codes[place] = code | Code::kSmoothed;
      }
    });
  }
}

}  // namespace jml::cuda
