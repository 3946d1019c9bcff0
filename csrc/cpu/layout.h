// Between tensors and tiles: the only file that knows layouts and dtypes. A tile has one row for
// each class, `stride` elements apart, the pixels of a row contiguous.
//
//     Segments                where the pixels of a tile lie in a tensor
//     fill_tile, store_tile   a tile from a tensor, and back
//     TileSource              the tiles of the logits or of a dense target, one after the other
//     GradientSink            takes the gradient of one tile after the other
//
// The kernels get logits and dense targets from a TileSource, and give the gradient of the logits
// back through a GradientSink; nothing else in them touches a tensor of classes x pixels.
#pragma once

#include <algorithm>
#include <utility>

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

// ---- source --------------------------------------------------------------------------------

// The tiles of a tensor, one after the other, with the next one copied while this one is computed.
template <typename T>
class TileSource {
 public:
  T* tile = nullptr;   // classes x stride: the pixels that were asked for last
  T* ahead = nullptr;  // room for as much: the pixels that come next, as they lie in the tensor
  Prefetch prefetch;   // what copies them: loops over this tile call its steps
  LargestBits<float> largest;        // of what these have looked at as they copied it
  bool known_probabilities = false;  // whether all numbers of `tile` are known to be probabilities

  TileSource(const TensorView& view, const Arguments& args, int64_t stride)
      : view(view), args(args), stride(stride) {}

  // Makes `tile` hold these pixels, rows padded with 0 to `padded`.
  void load(const Pixels& pixels, int padded) {
    const int64_t classes = args.classes;
    finish_prefetch();
    known_probabilities = false;
    if (!(pixels == prefetched)) {
      fill_tile(view, pixels.image, segments(pixels), classes, tile, stride);
    } else if (transposed) {
      fill_tile(copied(1), 0, Segments(classes, pixels.count), classes, tile, stride);
    } else if (holds<T>(view)) {
      std::swap(tile, ahead);
      known_probabilities = looks && largest.are_probabilities();
    } else {
      fill_tile(copied(stride), 0, Segments(1, pixels.count), classes, tile, stride);
    }
    prefetched = Pixels();
    for (int64_t c = 0; pixels.count < padded && c < classes; ++c)
      fill(tile + c * stride + pixels.count, padded - pixels.count, T(0));
  }

  void finish_prefetch() { prefetch.finish(largest); }

  // Begins to copy the pixels that are to be loaded next, where they lie in rows. With `looks`
  // every step of the prefetch is to be one that looks at the numbers too.
  void begin_prefetch(const Pixels& next, bool looks) {
    this->looks = looks && view.dtype == DType::f32;
    largest = LargestBits<float>();
    const int64_t bytes = view.element_bytes(), classes = args.classes;
    if (next.image < 0 || bytes > int64_t(sizeof(T))) return;
    const Segments where = segments(next);
    transposed = classes_side_by_side(view, where, classes);
    const int64_t row_bytes = next.count * bytes * (transposed ? classes : 1);
    if (where.size != 1 || where.step != (transposed ? classes : 1) || row_bytes % kPieceBytes)
      return;
    prefetched = next;
    const auto* from = static_cast<const char*>(view.data) +
                       (next.image * view.image_stride + where.segment[0].offset) * bytes;
    auto* to = reinterpret_cast<char*>(ahead);
    if (transposed)
      prefetch = Prefetch(from, row_bytes, to, row_bytes, 1, row_bytes);
    else
      prefetch = Prefetch(from, view.class_stride * bytes, to, stride * bytes, classes, row_bytes);
  }

 private:
  const TensorView& view;
  const Arguments& args;
  const int64_t stride;
  Pixels prefetched;        // what `ahead` holds
  bool transposed = false;  // with its classes side by side
  bool looks = false;       // and whether it was looked at: then it holds floats

  Segments segments(const Pixels& pixels) const { return {view, args.spatial, pixels}; }

  // What `ahead` holds, as a tensor.
  TensorView copied(int64_t class_stride) const {
    TensorView rows;
    rows.data = ahead;
    rows.dtype = view.dtype;
    rows.class_stride = class_stride;
    return rows;
  }
};

// ---- gradient ------------------------------------------------------------------------------

// Takes the gradient of one tile after the other: hands out the rows to write it to, and brings
// them to the tensor.
template <typename T>
class GradientSink {
 public:
  explicit GradientSink(const Arguments& args) : args(args), view(args.grad) {}
  ~GradientSink() { end_streams(); }

  // Begins a tile: rows lie in the tensor itself where its dtype and layout are those of a tile,
  // and else in `room`, classes x stride. They hold `padded` pixels.
  void begin(const Pixels& tile_pixels, int padded, T* room, int64_t stride) {
    pixels = tile_pixels;
    const Segments where(view, args.spatial, pixels);
    in_tensor = pixels.count == padded && holds<T>(view) && where.contiguous();
    rows = in_tensor ? static_cast<T*>(view.data) + pixels.image * view.image_stride +
                           where.segment[0].offset
                     : room;
    row_stride = in_tensor ? view.class_stride : stride;
  }

  // Where the gradient of a class is to be written.
  T* row(int64_t c) const { return rows + c * row_stride; }

  // Whether rows had better be written past the caches, and can be.
  bool streams() const {
    return in_tensor && args.stream_gradient && aligned(rows) && aligned(rows + row_stride);
  }

  // Ends the tile, all of whose rows are written.
  void end() {
    if (!in_tensor)
      store_tile(view, pixels.image, Segments(view, args.spatial, pixels), args.classes, rows,
                 row_stride);
  }

 private:
  const Arguments& args;
  const TensorView& view;
  Pixels pixels;
  bool in_tensor = false;
  T* rows = nullptr;
  int64_t row_stride = 0;

  static bool aligned(const T* row) {
    return reinterpret_cast<uintptr_t>(row) % kVectorBytes == 0;
  }
};

}  // namespace jml::JML_ISA
