// Between tensors where they lie and tiles: the only place that knows layouts and dtypes.
// A tile has one row for each class, `stride` elements apart, the pixels of a row contiguous.
#pragma once

#include <algorithm>
#include <limits>

#include "arguments.h"
#include "turn.h"

namespace jml::JML_ISA {

// Pixels [first, first + count) of an image: what a tile holds.
struct Pixels {
  int64_t image = -1;  // none
  int64_t first = 0;
  int count = 0;

  bool operator==(const Pixels&) const = default;
};

// Consecutive pixels of a tile that lie at one distance from each other.
struct Run {
  int64_t offset;  // of the first, in elements from the image's start
  int start;       // its index in the tile
  int count;
};

// The runs of the pixels of a tile. Dimensions that lie one behind the other count as one, so a
// contiguous or channels_last image is a single run.
struct Runs {
  int64_t step;  // between pixels of a run, in elements
  int size = 0;
  Run* run;  // room for as many as a tile has pixels

  // A single run.
  Runs(int64_t step, int count, Run* room) : step(step), size(1), run(room) {
    run[0] = {0, 0, count};
  }

  Runs(const TensorView& view, const int64_t spatial[3], const Pixels& pixels, Run* room)
      : run(room) {
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
      run[size++] = {z * strides[2] + y * strides[1] + x * strides[0], start, length};
      start += length;
      x = 0;
      if (++y == sizes[1]) y = 0, ++z;
    }
  }

  bool single() const { return size == 1; }
};

// Calls visit(pointer of the view's element type).
template <typename Visit>
inline void visit_dtype(const TensorView& view, Visit visit) {
  switch (view.dtype) {
    case DType::f16: return visit(static_cast<half_bits*>(view.data));
    case DType::bf16: return visit(static_cast<bfloat_bits*>(view.data));
    case DType::f32: return visit(static_cast<float*>(view.data));
    case DType::f64: return visit(static_cast<double*>(view.data));
    default: return visit_integer(view, visit);
  }
}

// The pixels of one row into contiguous memory.
template <typename T, typename Source>
inline void load_row(const Source* __restrict source, const Runs& runs, T* __restrict row) {
  for (int r = 0; r < runs.size; ++r) {
    const Run run = runs.run[r];
    const Source* from = source + run.offset;
    T* to = row + run.start;
    if (runs.step == 1)
      convert_row(from, run.count, to);
    else
      for (int i = 0; i < run.count; ++i) to[i] = convert<T>(from[i * runs.step]);
  }
}

// Rows of a tile that are asked for ahead of the one at work: enough for the memory's latency, few
// enough that rows a power of two apart, which share cache sets, are still there when used.
constexpr int kRowsAhead = 4;

template <int kWrite, typename T>
JML_MATH void prefetch_row(const T* row, int count) {
  for (int i = 0; i < count; i += 64 / int(sizeof(T))) __builtin_prefetch(row + i, kWrite);
}

inline bool classes_side_by_side(const TensorView& view, const Runs& runs, int64_t classes) {
  return view.class_stride == 1 && runs.step != 1 && classes > 1;
}

// Fills a tile of classes x pixels.
template <typename T>
void load_tile(const TensorView& view, int64_t image, const Runs& runs, int64_t classes, T* tile,
               int64_t stride) {
  visit_dtype(view, [&](auto* data) {
    const auto* source = data + image * view.image_stride;
    if (classes_side_by_side(view, runs, classes))
      for (int r = 0; r < runs.size; ++r) {
        const Run run = runs.run[r];
        turn_in(source + run.offset, runs.step, run.count, classes, tile + run.start, stride);
      }
    else
      for (int64_t c = 0; c < classes; ++c) {
        if (runs.single() && runs.step == 1 && c + kRowsAhead < classes)
          prefetch_row<0>(source + (c + kRowsAhead) * view.class_stride + runs.run[0].offset,
                          runs.run[0].count);
        load_row(source + c * view.class_stride, runs, tile + c * stride);
      }
  });
}

template <typename T>
bool holds(const TensorView& view) {
  return view.dtype == (sizeof(T) == sizeof(double) ? DType::f64 : DType::f32);
}

// Where a kernel may write rows of T itself: the tensor's row of a class, or null if its dtype or
// layout need store_tile.
template <typename T>
T* direct_rows(const TensorView& view, int64_t image, const Runs& runs) {
  if (!holds<T>(view) || runs.step != 1 || !runs.single()) return nullptr;
  return static_cast<T*>(view.data) + image * view.image_stride + runs.run[0].offset;
}

// The tile's pixels to where the tensor lies.
template <typename T>
void store_tile(const TensorView& view, int64_t image, const Runs& runs, int64_t classes,
                const T* tile, int64_t stride) {
  visit_dtype(view, [&](auto* data) {
    using Target = std::remove_pointer_t<decltype(data)>;
    auto* target = data + image * view.image_stride;
    const bool turned = classes_side_by_side(view, runs, classes);
    for (int r = 0; r < runs.size; ++r) {
      const Run run = runs.run[r];
      const T* from = tile + run.start;
      Target* to = target + run.offset;
      if (turned) {
        turn_out(from, stride, run.count, classes, to, runs.step);
        continue;
      }
      for (int64_t c = 0; c < classes; ++c) {
        const T* __restrict row = from + c * stride;
        Target* __restrict out = to + c * view.class_stride;
        if (c + kRowsAhead < classes)
          prefetch_row<1>(out + kRowsAhead * view.class_stride, run.count);
        if (runs.step == 1)
          convert_row_back(row, run.count, out);
        else
          for (int i = 0; i < run.count; ++i) out[i * runs.step] = convert_back<Target>(row[i]);
      }
    }
  });
}

}  // namespace jml::JML_ISA
