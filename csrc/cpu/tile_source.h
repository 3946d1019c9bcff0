// What lies behind tiles:
//
//     TileSource     the tiles of the logits or of a dense target, one after the other
//     GradientSink   takes the gradient of one tile after the other
//
// A source is a tensor as it lies, with the next tile copied while this one is computed
// (prefetch.h), or one of lower resolution that is interpolated (interpolation.h), and so is a sink.
#pragma once

#include <optional>
#include <utility>

#include "interpolation_gradient.h"
#include "prefetch.h"

namespace jml::JML_ISA {

// ---- source --------------------------------------------------------------------------------

// The tiles of a tensor, one after the other, with the next one copied while this one is computed.
template <typename T>
class TileSource {
 public:
  T* tile = nullptr;   // classes x stride: the pixels that were asked for last
  T* ahead = nullptr;  // with a prefetch, room for as much: the pixels that come next, as they lie
  Prefetch prefetch;   // what copies them: loops over this tile call its steps
  LargestBits<float> largest;        // of what these have looked at as they copied it
  bool known_probabilities = false;  // whether all numbers of `tile` are known to be probabilities

  // `upsampling`: how the tensor is interpolated, null if it is not.
  TileSource(const TensorView& view, const Upsampling* upsampling, const Arguments& args,
             int64_t stride)
      : view(view), args(args), stride(stride) {
    if (upsampling) interpolation.emplace(view, *upsampling, args);
  }

  bool has_prefetch() const { return !interpolation; }

  // Makes `tile` hold these pixels, rows padded with 0 to `padded`.
  void load(const Pixels& pixels, int padded) {
    const int64_t classes = args.classes;
    finish_prefetch();
    known_probabilities = false;
    if (interpolation) {
      interpolation->fill(pixels, tile, stride);
    } else if (!(pixels == prefetched)) {
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
    if (next.image < 0 || bytes > int64_t(sizeof(T)) || !has_prefetch()) return;
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
  std::optional<Interpolation<T>> interpolation;
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
  explicit GradientSink(const Arguments& args) : args(args), view(args.grad) {
    if (args.logits_upsampling) interpolation.emplace(*args.logits_upsampling, args);
  }
  ~GradientSink() { end_streams(); }

  void enter(int64_t chunk) {
    if (interpolation) interpolation->enter(chunk);
  }
  // Ends the chunk.
  void leave() {
    if (interpolation) interpolation->leave();
  }

  // Begins a tile: rows lie in the tensor itself where its dtype and layout are those of a tile,
  // and else in `room`, classes x stride. They hold `padded` pixels.
  void begin(const Pixels& tile_pixels, int padded, T* room, int64_t stride) {
    pixels = tile_pixels;
    in_tensor = false;
    rows = room;
    row_stride = stride;
    if (interpolation || pixels.count != padded || !holds<T>(view)) return;
    const Segments where(view, args.spatial, pixels);
    if (!where.contiguous()) return;
    in_tensor = true;
    rows = static_cast<T*>(view.data) + pixels.image * view.image_stride + where.segment[0].offset;
    row_stride = view.class_stride;
  }

  // Where the gradient of a class is to be written.
  T* row(int64_t c) const { return rows + c * row_stride; }

  // Whether rows had better be written past the caches, and can be.
  bool streams() const {
    return in_tensor && args.stream_gradient && aligned(rows) && aligned(rows + row_stride);
  }

  // Ends the tile, all of whose rows are written.
  void end() {
    if (interpolation)
      interpolation->add(pixels, rows, row_stride);
    else if (!in_tensor)
      store_tile(view, pixels.image, Segments(view, args.spatial, pixels), args.classes, rows,
                 row_stride);
  }

 private:
  const Arguments& args;
  const TensorView& view;
  std::optional<InterpolationGradient<T>> interpolation;
  Pixels pixels;
  bool in_tensor = false;
  T* rows = nullptr;
  int64_t row_stride = 0;

  static bool aligned(const T* row) {
    return reinterpret_cast<uintptr_t>(row) % kVectorBytes == 0;
  }
};

}  // namespace jml::JML_ISA
