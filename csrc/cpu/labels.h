// Integer labels of a tile: their codes, and which pixels boundary smoothing touches.
#pragma once

#include <climits>

#include "tile_io.h"

namespace jml::JML_ISA {

// Of many labels.
struct LabelCodes {
  int64_t ignore_index;
  int64_t label_count;

  JML_MATH int32_t of(int64_t label) const { return label_code(label, ignore_index, label_count); }

  template <typename Source>
  void load(const Source* __restrict from, int64_t step, int count,
            int32_t* __restrict code) const {
    if (step == 1)
      for (int i = 0; i < count; ++i) code[i] = of(int64_t(from[i]));
    else
      for (int i = 0; i < count; ++i) code[i] = of(int64_t(from[i * step]));
  }
};

inline LabelCodes label_codes(const Arguments& args) {
  return {args.ignore_index, args.label_count()};
}

inline void load_codes(const Arguments& args, int64_t image, const Runs& runs, int32_t* code) {
  visit_integer(args.labels, [&](const auto* data) {
    data += image * args.labels.image_stride;
    for (int r = 0; r < runs.size; ++r) {
      const Run run = runs.run[r];
      label_codes(args).load(data + run.offset, runs.step, run.count, code + run.start);
    }
  });
}

// Ranges [low, high] grow to hold others.
inline void widen(const int32_t* other_low, const int32_t* other_high, int count,
                  int32_t* __restrict low, int32_t* __restrict high) {
  for (int i = 0; i < count; ++i) {
    low[i] = std::min(low[i], other_low[i]);
    high[i] = std::max(high[i], other_high[i]);
  }
}

// Which of the pixels have another label in their window and no ignored one (section 2.4.1):
// boundary[i] is 1 or 0. The window of a row of pixels is taken apart: least and greatest code of
// each column, then of k columns side by side: k^(d-1) + k steps for a pixel where comparing labels
// one by one takes k^d. An ignored code is less than any label.
// lowest, highest: room for count + k - 1; codes: the same.
inline void boundary_pixels(const Arguments& args, const Pixels& pixels,
                            int32_t* __restrict codes, int32_t* __restrict lowest,
                            int32_t* __restrict highest, int32_t* __restrict boundary) {
  const int64_t* size = args.spatial;
  const int64_t* stride = args.labels.spatial_stride;
  const int64_t radius = args.boundary_size / 2;
  int64_t x = pixels.first % size[2], y = pixels.first / size[2] % size[1];
  int64_t z = pixels.first / size[2] / size[1];
  for (int start = 0; start < pixels.count;) {
    const int length = int(std::min<int64_t>(pixels.count - start, size[2] - x));
    const int64_t left = std::max<int64_t>(0, x - radius);
    const int64_t right = std::min(size[2], x + length + radius);
    const int width = int(length + 2 * radius);
    const int inset = int(left - (x - radius));  // columns that are outside of the image
    fill(lowest, width, INT_MAX);
    fill(highest, width, INT_MIN);
    for (int64_t w = std::max<int64_t>(0, z - radius); w < std::min(size[0], z + radius + 1); ++w)
      for (int64_t v = std::max<int64_t>(0, y - radius); v < std::min(size[1], y + radius + 1);
           ++v) {
        visit_integer(args.labels, [&](const auto* data) {
          data += pixels.image * args.labels.image_stride + w * stride[0] + v * stride[1] +
                  left * stride[2];
          label_codes(args).load(data, stride[2], int(right - left), codes);
        });
        widen(codes, codes, int(right - left), lowest + inset, highest + inset);
      }
    int32_t* __restrict low = boundary + start;
    int32_t* __restrict high = codes;
    copy(lowest, length, low);
    copy(highest, length, high);
    for (int64_t j = 1; j < args.boundary_size; ++j)
      widen(lowest + j, highest + j, length, low, high);
    for (int i = 0; i < length; ++i) low[i] = low[i] >= 0 && low[i] < high[i];
    start += length;
    x = 0;
    if (++y == size[1]) y = 0, ++z;
  }
}

}  // namespace jml::JML_ISA
