// The two kernels, statistics and their gradient, over the tiles of some chunks. Compiled once for
// each instruction set.
//
// The path of the data, a header for each step:
//
//     layout.h         tensors -> tiles of classes x pixels, with convert.h; the next tile is
//                      copied meanwhile, prefetch.h
//     tile_load.h      a tile -> what is known of its pixels, tile.h: their labels and target,
//                      labels.h; what is ignored or wrong, values.h; the softmax, softmax.h;
//                      cross-entropies, cross_entropy.h
//     forward.h        -> sums of each target: label_sums.h, dense_sums.h, both on target_sums.h
//     backward.h       -> the gradient of the logits, and back through layout.h
//
// They are made of loops over rows of pixels, rows.h and sums.h, on the vectors of the instruction
// set, vectors.h, and elementary functions, elementary.h.
#pragma once

#include "backward.h"
#include "forward.h"

namespace jml::JML_ISA {

// Calls body(chunk, pixels of a tile, pixels of the next one) for the tiles of chunks [begin, end).
template <typename Body>
inline void for_tiles(const Arguments& args, int64_t begin, int64_t end, Body body) {
  const int64_t chunk_pixels = args.tiles_per_chunk * args.tile_pixels;
  const auto tile_at = [&](int64_t chunk, int64_t tile) {
    const int64_t chunk_first = chunk % args.chunks_per_image * chunk_pixels;
    const int64_t last = std::min(args.pixels, chunk_first + chunk_pixels);
    const int64_t first = chunk_first + tile * args.tile_pixels;
    if (chunk >= end || first >= last) return Pixels();
    return Pixels{chunk / args.chunks_per_image, first,
                  int(std::min(args.tile_pixels, last - first))};
  };
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    Pixels pixels = tile_at(chunk, 0);
    for (int64_t tile = 1; pixels.image >= 0; ++tile) {
      const Pixels next = tile_at(chunk, tile);
      body(chunk, pixels, next.image >= 0 ? next : tile_at(chunk + 1, 0));
      pixels = next;
    }
  }
}

template <typename T>
void run_forward(const Arguments& args, int64_t begin, int64_t end) {
  Forward<T> forward(args);
  int64_t entered = -1;
  for_tiles(args, begin, end, [&](int64_t chunk, const Pixels& pixels, const Pixels& next) {
    if (chunk != entered) {
      if (entered >= 0) forward.leave();
      forward.enter(entered = chunk);
    }
    forward.add(pixels, next);
  });
  if (entered >= 0) forward.leave();
}

template <typename T>
void run_backward(const Arguments& args, int64_t begin, int64_t end) {
  Backward<T> backward(args);
  int64_t entered = -1;
  for_tiles(args, begin, end, [&](int64_t, const Pixels& pixels, const Pixels& next) {
    if (pixels.image != entered) backward.enter(entered = pixels.image);
    backward.write(pixels, next);
  });
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
