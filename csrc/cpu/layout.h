// Between tensors and tiles: the only file that knows layouts and dtypes. A tile has one row for
// each class, `stride` elements apart, the pixels of a row contiguous.
//
//     Segments                where the pixels of a tile lie in a tensor
//     fill_tile, store_tile   a tile from a tensor, and back
//
// The kernels get logits and dense targets from a TileSource, and give the gradient of the logits
// back through a GradientSink (tile_source.h); nothing else in them touches a tensor of classes x
// pixels.
#pragma once

#include <algorithm>

#include "../tiles.h"
#include "arguments.h"
#include "convert.h"
#include "prefetch.h"
#include "rows.h"

namespace jml::JML_ISA {

// ---- access pattern ------------------------------------------------------------------------

// Pixels [first, first + count) of an image: what a tile holds.
struct Pixels {
  int64_t image = -1;  // none
  int64_t first = 0;
  int count = 0;

  bool operator==(const Pixels&) const = default;
};

// Consecutive pixels of a tile that lie at one distance from each other.
struct Segment {
  int64_t offset;  // of the first, in elements from the image's start
  int start;       // its index in the tile
  int count;
};

// The access pattern of a tile's pixels in a tensor. Dimensions that lie one behind the other count
// as one, so the pixels of a contiguous or channels_last image are a single segment.
struct Segments {
  int64_t step;  // between pixels of a segment, in elements
  int size = 0;
  Segment segment[kMaxTilePixels];

  Segments(int64_t step, int count) : step(step), size(1) { segment[0] = {0, 0, count}; }

  Segments(const TensorView& view, const int64_t spatial[3], const Pixels& pixels) {
    int64_t sizes[3] = {1, 1, 1}, strides[3] = {0, 0, 0};  // innermost first
    int rank = 0;
    for (int d = 2; d >= 0; --d) {
      if (spatial[d] == 1) continue;
      if (rank > 0 && view.spatial_stride[d] == strides[rank - 1] * sizes[rank - 1]) {
        sizes[rank - 1] *= spatial[d];
      } else {
        sizes[rank] = spatial[d];
        strides[rank++] = view.spatial_stride[d];
      }
    }
    step = strides[0];
    int64_t x = pixels.first % sizes[0], y = pixels.first / sizes[0] % sizes[1];
    int64_t z = pixels.first / sizes[0] / sizes[1];
    for (int start = 0; start < pixels.count;) {
      const int length = int(std::min<int64_t>(pixels.count - start, sizes[0] - x));
      segment[size++] = {z * strides[2] + y * strides[1] + x * strides[0], start, length};
      start += length;
      x = 0;
      if (++y == sizes[1]) y = 0, ++z;
    }
  }

  const Segment* begin() const { return segment; }
  const Segment* end() const { return segment + size; }
  bool contiguous() const { return size == 1 && step == 1; }
};

// Whether the classes of a pixel are neighbours, and its pixels are not: channels_last.
inline bool classes_side_by_side(const TensorView& view, const Segments& segments,
                                 int64_t classes) {
  return view.class_stride == 1 && segments.step != 1 && classes > 1;
}

// ---- a tile from a tensor, and back --------------------------------------------------------

// Whether the elements of a tensor are the numbers T that a tile holds.
template <typename T>
bool holds(const TensorView& view) {
  return view.dtype == (sizeof(T) == sizeof(double) ? DType::f64 : DType::f32);
}

template <int kWrite, typename T>
JML_MATH void prefetch_row(const T* row, int count) {
  for (int i = 0; i < count; i += 64 / int(sizeof(T))) __builtin_prefetch(row + i, kWrite);
}

// The pixels of one class, or of a tensor without classes, to a row.
template <typename T, typename Source>
inline void fill_row(const Source* __restrict source, const Segments& segments,
                     T* __restrict row) {
  for (const Segment& segment : segments) {
    const Source* from = source + segment.offset;
    T* to = row + segment.start;
    if (segments.step == 1)
      convert_row(from, segment.count, to);
    else
      for (int i = 0; i < segment.count; ++i) to[i] = convert<T>(from[i * segments.step]);
  }
}

// Fills a tile of classes x pixels from a tensor.
template <typename T>
void fill_tile(const TensorView& view, int64_t image, const Segments& segments, int64_t classes,
               T* tile, int64_t stride) {
  visit_dtype(view, [&](auto* data) {
    const auto* source = data + image * view.image_stride;
    if (classes_side_by_side(view, segments, classes))
      for (const Segment& segment : segments)
        transpose_to_rows(source + segment.offset, segments.step, segment.count, classes,
                          tile + segment.start, stride);
    else
      for (int64_t c = 0; c < classes; ++c) {
        if (segments.contiguous() && c + kRowsAhead < classes)
          prefetch_row<0>(
              source + (c + kRowsAhead) * view.class_stride + segments.segment[0].offset,
              segments.segment[0].count);
        fill_row(source + c * view.class_stride, segments, tile + c * stride);
      }
  });
}

// Stores a tile of classes x pixels to where the tensor lies.
template <typename T>
void store_tile(const TensorView& view, int64_t image, const Segments& segments, int64_t classes,
                const T* tile, int64_t stride) {
  visit_dtype(view, [&](auto* data) {
    using Target = std::remove_pointer_t<decltype(data)>;
    auto* target = data + image * view.image_stride;
    const bool transposed = classes_side_by_side(view, segments, classes);
    for (const Segment& segment : segments) {
      const T* from = tile + segment.start;
      Target* to = target + segment.offset;
      if (transposed) {
        transpose_from_rows(from, stride, segment.count, classes, to, segments.step);
        continue;
      }
      for (int64_t c = 0; c < classes; ++c) {
        const T* __restrict row = from + c * stride;
        Target* __restrict out = to + c * view.class_stride;
        if (c + kRowsAhead < classes)
          prefetch_row<1>(out + kRowsAhead * view.class_stride, segment.count);
        if (segments.step == 1)
          convert_row_back(row, segment.count, out);
        else
          for (int i = 0; i < segment.count; ++i)
            out[i * segments.step] = convert_back<Target>(row[i]);
      }
    }
  });
}

}  // namespace jml::JML_ISA
