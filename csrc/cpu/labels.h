// Integer labels of a tile: their codes, the pixels that boundary smoothing touches, the row of the
// tile in which each label's class lies, and the target that the labels make.
#pragma once

#include <limits>

#include "arguments.h"
#include "layout.h"
#include "rows.h"

namespace jml::JML_ISA {

// ---- codes ---------------------------------------------------------------------------------

// Turns labels into codes, see label_code.
struct LabelEncoder {
  int64_t ignore_index;
  int64_t label_count;

  explicit LabelEncoder(const Arguments& args)
      : ignore_index(args.ignore_index), label_count(args.label_count()) {}

  // Labels that lie `step` apart.
  template <typename Source>
  void encode(const Source* __restrict label, int64_t step, int count,
              int32_t* __restrict code) const {
    if (step == 1)
      for (int i = 0; i < count; ++i) code[i] = code_of(label[i]);
    else
      for (int i = 0; i < count; ++i) code[i] = code_of(label[i * step]);
  }

 private:
  template <typename Source>
  JML_MATH int32_t code_of(Source label) const {
    return label_code(label_number(label), ignore_index, label_count);
  }
};

inline void load_codes(const Arguments& args, const Pixels& pixels, int32_t* code) {
  const LabelEncoder encoder(args);
  const Segments segments(args.labels, args.spatial, pixels);
  visit_integer(args.labels, [&](const auto* data) {
    data += pixels.image * args.labels.image_stride;
    for (const Segment& segment : segments)
      encoder.encode(data + segment.offset, segments.step, segment.count, code + segment.start);
  });
}

// 1 where the mask has a pixel, and 0 elsewhere.
template <typename T>
void load_mask(const Arguments& args, const Pixels& pixels, T* valid) {
  const auto* data = static_cast<const uint8_t*>(args.mask.data);
  fill_row(data + pixels.image * args.mask.image_stride,
           Segments(args.mask, args.spatial, pixels), valid);
}

// ---- boundary ------------------------------------------------------------------------------

// Ranges [lowest, highest] grow to hold others.
template <typename Code>
void widen_ranges(const Code* other_lowest, const Code* other_highest, int count,
                  Code* __restrict lowest, Code* __restrict highest) {
  for (int i = 0; i < count; ++i) {
    lowest[i] = std::min(lowest[i], other_lowest[i]);
    highest[i] = std::max(highest[i], other_highest[i]);
  }
}

// Which of the pixels have another label in their window and no ignored one (section 2.4.1 of the
// paper): on_boundary[i] is 1 or 0. The window of a row of pixels is taken apart: least and
// greatest code of each column, then of k columns side by side. That makes k^(d-1) + k steps for a
// pixel, where comparing labels one by one makes k^d. An ignored code is less than any label.
// codes, lowest and highest are room for count + k - 1 numbers. codes_of(z, y, left, right) has the
// codes of columns [left, right) of a row, integers of any signed type.
template <typename Code, typename CodesOf>
void find_boundary(const Arguments& args, const Pixels& pixels, Code* __restrict codes,
                   Code* __restrict lowest, Code* __restrict highest, Code* __restrict on_boundary,
                   CodesOf codes_of) {
  const int64_t* size = args.spatial;
  const int64_t radius = args.boundary_size / 2;
  int64_t x = pixels.first % size[2], y = pixels.first / size[2] % size[1];
  int64_t z = pixels.first / size[2] / size[1];
  for (int start = 0; start < pixels.count;) {
    const int length = int(std::min<int64_t>(pixels.count - start, size[2] - x));
    const int64_t left = std::max<int64_t>(0, x - radius);
    const int64_t right = std::min(size[2], x + length + radius);
    const int width = int(length + 2 * radius);
    const int inset = int(left - (x - radius));  // columns that are outside of the image
    fill(lowest, width, std::numeric_limits<Code>::max());
    fill(highest, width, std::numeric_limits<Code>::min());
    for (int64_t w = std::max<int64_t>(0, z - radius); w < std::min(size[0], z + radius + 1); ++w)
      for (int64_t v = std::max<int64_t>(0, y - radius); v < std::min(size[1], y + radius + 1);
           ++v) {
        const Code* row = codes_of(w, v, left, right);
        widen_ranges(row, row, int(right - left), lowest + inset, highest + inset);
      }
    Code* __restrict window_lowest = on_boundary + start;
    Code* __restrict window_highest = codes;
    copy(lowest, length, window_lowest);
    copy(highest, length, window_highest);
    for (int64_t j = 1; j < args.boundary_size; ++j)
      widen_ranges(lowest + j, highest + j, length, window_lowest, window_highest);
    for (int i = 0; i < length; ++i)
      window_lowest[i] = window_lowest[i] >= 0 && window_lowest[i] < window_highest[i];
    start += length;
    x = 0;
    if (++y == size[1]) y = 0, ++z;
  }
}

// The same with codes that are made for it.
inline void find_boundary(const Arguments& args, const Pixels& pixels, int32_t* codes,
                          int32_t* lowest, int32_t* highest, int32_t* on_boundary) {
  const LabelEncoder encoder(args);
  const int64_t* stride = args.labels.spatial_stride;
  find_boundary(args, pixels, codes, lowest, highest, on_boundary,
                [&](int64_t z, int64_t y, int64_t left, int64_t right) {
                  visit_integer(args.labels, [&](const auto* data) {
                    data += pixels.image * args.labels.image_stride + z * stride[0] +
                            y * stride[1] + left * stride[2];
                    encoder.encode(data, stride[2], int(right - left), codes);
                  });
                  return codes;
                });
}

// ---- the row of each label -----------------------------------------------------------------

// From codes of labels (< 0: none), which pixels are valid, and the row of each one's label: that
// is `no_row` for a pixel that is not valid. Returns how many are valid.
template <typename T>
int place_labels(const int32_t* __restrict code, int32_t no_row, T* __restrict valid,
                 int32_t* __restrict row, int n) {
  int count = 0;
  for (int i = 0; i < n; ++i) {
    const bool counts = code[i] >= 0;
    valid[i] = counts ? T(1) : T(0);
    row[i] = counts ? code[i] : no_row;
    count += counts;
  }
  return count;
}

// The same where a mask (`valid` as it comes in) may exclude pixels. In a binary task label 1 is at
// row 0 (`shift` is 1), and label 0 has no row.
template <typename T>
int place_labels(const int32_t* __restrict code, int32_t shift, int32_t no_row,
                 T* __restrict valid, int32_t* __restrict row, int n) {
  int count = 0;
  for (int i = 0; i < n; ++i) {
    const bool counts = code[i] >= 0 && valid[i] != 0;
    valid[i] = counts ? T(1) : T(0);
    row[i] = counts && code[i] >= shift ? code[i] - shift : no_row;
    count += counts;
  }
  return count;
}

// Labels mostly come in regions: pixels are taken by the block where all of it has one label, and
// one by one where not.
inline void find_regions(const int32_t* __restrict row, uint8_t* __restrict one_label, int n) {
  for (int block = 0; block < n / kBlock; ++block) {
    const int32_t* labels = row + block * kBlock;
    int32_t differ = 0;
    for (int i = 0; i < kBlock; ++i) differ |= labels[i] ^ labels[0];
    one_label[block] = differ == 0;
  }
}

// Calls region(row, first) for blocks of pixels first, first + 1, ... with one label, and
// pixel(row, i) for each pixel of the others.
template <typename Region, typename Pixel>
JML_MATH void for_labels(const int32_t* row, const uint8_t* one_label, int n, Region region,
                         Pixel pixel) {
  for (int first = 0; first < n; first += kBlock)
    if (one_label[first / kBlock])
      region(row[first], first);
    else
      for (int i = first; i < first + kBlock; ++i) pixel(row[i], i);
}

// ---- the target ----------------------------------------------------------------------------

// The target at the label and elsewhere of pixels that are smoothed where `smoothed` says so, and
// all of them where it is null. Both are 0 where a pixel is not valid.
template <typename T>
void label_target_rows(const int32_t* __restrict smoothed, T epsilon, T labels,
                       const T* __restrict valid, T* __restrict target_at_label,
                       T* __restrict target_elsewhere, int n) {
  for (int i = 0; i < n; ++i) {
    const LabelTarget<T> target = label_target(!smoothed || smoothed[i] ? epsilon : T(0), labels);
    target_at_label[i] = target.at_label * valid[i];
    target_elsewhere[i] = target.elsewhere * valid[i];
  }
}

}  // namespace jml::JML_ISA
