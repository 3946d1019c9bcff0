// Where tiles come from, and where their gradients go. The kernels get the logits and a dense target
// from a TileSource, and give the gradient of the logits back through a GradientSink; nothing else
// in them touches the layout of a tensor of classes x pixels.
#pragma once

#include <utility>

#include "arguments.h"
#include "layout.h"
#include "rows.h"

namespace jml::JML_ISA {

// The tiles of a tensor, one after the other, with the next one copied while this one is computed.
template <typename T>
class TileSource {
 public:
  T* tile = nullptr;   // classes x stride: the pixels that were asked for last
  T* ahead = nullptr;  // room for as much: the pixels that come next, as they lie in the tensor
  Prefetch prefetch;   // what copies them: loops over this tile call its steps

  TileSource(const TensorView& view, const Arguments& args, int64_t stride)
      : view(view), args(args), stride(stride) {}

  // Makes `tile` hold these pixels, rows padded with 0 to `padded`.
  void load(const Pixels& pixels, int padded) {
    const int64_t classes = args.classes;
    prefetch.finish();
    if (!(pixels == prefetched)) {
      fill_tile(view, pixels.image, segments(pixels), classes, tile, stride);
    } else if (transposed) {
      fill_tile(copied(1), 0, Segments(classes, pixels.count), classes, tile, stride);
    } else if (holds<T>(view)) {
      std::swap(tile, ahead);
    } else {
      fill_tile(copied(stride), 0, Segments(1, pixels.count), classes, tile, stride);
    }
    prefetched = Pixels();
    for (int64_t c = 0; pixels.count < padded && c < classes; ++c)
      fill(tile + c * stride + pixels.count, padded - pixels.count, T(0));
  }

  // Begins to copy the pixels that are to be loaded next, where they lie in rows.
  void begin_prefetch(const Pixels& next) {
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

// Takes the gradient of one tile after the other: hands out the rows to write it to, and brings them
// to the tensor.
template <typename T>
class GradientSink {
 public:
  explicit GradientSink(const Arguments& args) : args(args), view(args.grad) {}
  ~GradientSink() { end_streams(); }

  // Begins a tile: rows lie in the tensor itself where its dtype and layout are those of a tile, and
  // else in `room`, classes x stride. They hold `padded` pixels. With `rewrites` the rows are read
  // and changed after they are written, and do not lie in the tensor.
  void begin(const Pixels& tile_pixels, int padded, T* room, int64_t stride, bool rewrites) {
    pixels = tile_pixels;
    const Segments where(view, args.spatial, pixels);
    in_tensor = !rewrites && pixels.count == padded && holds<T>(view) && where.contiguous();
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
