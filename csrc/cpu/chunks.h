// How images are cut into chunks, and chunks into tiles. Only the shape decides, so that the bits
// of a result depend on no number of threads.
#pragma once

#include <algorithm>

#include "../tiles.h"
#include "arguments.h"

namespace jml {

// A chunk is long enough to be worth a thread's while and the partial sums of all chunks stay
// small; there are chunks enough for many threads.
constexpr int64_t kMostChunks = 256;
constexpr int64_t kPartialBytes = 512 * 1024;

inline bool computes_in_double(const Problem& problem) {
  return problem.logits.dtype == DType::f64;
}

inline int64_t divide_up(int64_t number, int64_t divisor) {
  return (number + divisor - 1) / divisor;
}

// Chunks of an image of which each has so many bytes of partial sums, and that has so many pieces.
inline int64_t chunks_of_image(const Arguments& args, int64_t partial_bytes, int64_t pieces) {
  const int64_t images = std::max<int64_t>(args.images, 1);
  const int64_t most = std::min(kMostChunks, kPartialBytes / std::max<int64_t>(partial_bytes, 1));
  return std::clamp<int64_t>(most / images, 1, std::max<int64_t>(pieces, 1));
}

inline void cut_tiles(Arguments& args, int64_t partial_bytes) {
  args.tile_pixels = cpu_tile_pixels(args.classes, computes_in_double(args) ? 8 : 4);
  const int64_t tiles = divide_up(args.pixels, args.tile_pixels);
  args.tiles_per_chunk = divide_up(tiles, chunks_of_image(args, partial_bytes, tiles));
  args.chunks_per_image = tiles ? divide_up(tiles, args.tiles_per_chunk) : 0;
}

}  // namespace jml
