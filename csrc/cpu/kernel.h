// The two kernels of the losses, statistics and their gradient, over the tiles of some chunks.
// Compiled once for each instruction set.
//
// The path of the data, a header for each step:
//
//     tile_source.h    tensors -> tiles of classes x pixels: as they lie, with layout.h and
//                      convert.h, the next tile copied meanwhile, prefetch.h; or interpolated from
//                      lower resolution, interpolation.h
//     tile_load.h      a tile -> what is known of its pixels, tile.h: their labels and target,
//                      labels.h; what is ignored or wrong, values.h; the softmax, softmax.h;
//                      cross-entropies, cross_entropy.h
//     forward.h        -> sums of each target: label_sums.h, dense_sums.h, both on target_sums.h
//     backward.h       -> the gradient of the logits, and back through tile_source.h; to lower
//                      resolution, interpolation_gradient.h
//
// They are made of loops over rows of pixels, rows.h and sums.h, on the vectors of the instruction
// set, vectors.h, and elementary functions, elementary.h.
#pragma once

#include "backward.h"
#include "chunk_tiles.h"
#include "forward.h"

namespace jml::JML_ISA {

template <typename T>
void run_forward(const Arguments& args, int64_t begin, int64_t end) {
  Forward<T> forward(args);
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    forward.enter(chunk);
    for_tiles(args, chunk, end,
              [&](const Pixels& pixels, const Pixels& next) { forward.add(pixels, next); });
    forward.leave();
  }
}

template <typename T>
void run_backward(const Arguments& args, int64_t begin, int64_t end) {
  Backward<T> backward(args);
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    backward.enter(chunk);
    for_tiles(args, chunk, end,
              [&](const Pixels& pixels, const Pixels& next) { backward.write(pixels, next); });
    backward.leave();
  }
}

void statistics(const Arguments& args, int64_t begin, int64_t end) {
  if (args.logits.dtype == DType::f64)
    run_forward<double>(args, begin, end);
  else
    run_forward<float>(args, begin, end);
}

void statistics_backward(const Arguments& args, int64_t begin, int64_t end) {
  if (args.logits.dtype == DType::f64)
    run_backward<double>(args, begin, end);
  else
    run_backward<float>(args, begin, end);
}

}  // namespace jml::JML_ISA
