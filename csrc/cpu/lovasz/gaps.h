// The gaps x - y between the probabilities of a softmax and integer labels, for the Lovász losses:
// a gap's size is the error of its pixel and class, and its sign says whether the pixel is labelled
// with the class (-0 is too). A pixel that does not count has a pattern of its own.
//
//     tensors -> tile (tile_load.h) -> rows of gaps -> a tensor of the logits' shape (args.grad)
//
// Compiled once for each instruction set.
#pragma once

#include "../kernel.h"
#include "uncounted.h"

namespace jml::JML_ISA {

// row <- gaps of one class, as if no pixel were labelled with it.
template <typename T>
void gap_row(const T* __restrict x, const T* __restrict scale, const T* __restrict valid, int n,
             T* row) {
  for (int i = 0; i < n; ++i) {
    const T p = one_nan(x[i] * scale[i]);
    row[i] = valid[i] != 0 ? p : uncounted<T>();
  }
}

template <typename T>
class Gaps {
 public:
  explicit Gaps(const Arguments& args) : args(args), tile(args), loader(tile), sink(args) {
    requested.faults = true;
  }

  void enter(int64_t chunk) {
    counts = args.partial + chunk * (args.classes + 1);
    fill(counts, args.classes + 1, 0.0);
    tile.faults = Faults();
  }

  void write(const Pixels& pixels, const Pixels& next) {
    loader.load(pixels, next, requested);
    const LabelState<T>& label = tile.label;
    sink.begin(pixels, tile.padded, tile.x, tile.stride);
    for (int64_t c = 0; c < args.classes; ++c)
      gap_row(tile.x_row(c), tile.softmax.scale, tile.valid, tile.padded, sink.row(c));
    for (int i = 0; i < tile.padded; ++i)
      if (label.row[i] < args.classes) sink.row(label.row[i])[i] = -one_nan(label.p_not_label[i]);
    sink.end();
    for_labels(
        label.row, label.one_label, tile.padded,
        [&](int32_t c, int) __attribute__((always_inline)) { counts[c] += kBlock; },
        [&](int32_t c, int) __attribute__((always_inline)) { counts[c] += 1; });
  }

  void leave(int64_t chunk) { args.faults[chunk] = tile.faults; }

 private:
  const Arguments& args;
  Tile<T> tile;
  TileLoader<T> loader;
  GradientSink<T> sink;
  Requested<T> requested;
  double* counts = nullptr;  // C + 1: pixels of each label, and those without
};

template <typename T>
void write_gaps(const Arguments& args, int64_t begin, int64_t end) {
  Gaps<T> gaps(args);
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    gaps.enter(chunk);
    for_tiles(args, chunk, end,
              [&](const Pixels& pixels, const Pixels& next) { gaps.write(pixels, next); });
    gaps.leave(chunk);
  }
}

void lovasz_gaps(const Arguments& args, int64_t begin, int64_t end) {
  if (args.logits.dtype == DType::f64)
    write_gaps<double>(args, begin, end);
  else
    write_gaps<float>(args, begin, end);
}

}  // namespace jml::JML_ISA
