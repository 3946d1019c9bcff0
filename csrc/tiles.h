// Tiles: how many pixels a kernel holds at once, with all their classes. A fixed table, tuned
// offline: choosing at run time would change the order of sums, and so the bits.
#pragma once

#include <cstdint>

namespace jml {

// CPU. A row of the tile is one class; rows are streams, so longer is better for the memory
// system, while the tile (and a second one for gradients and dense targets) should stay in the
// 32 KiB L1 for few classes and in a 256 KiB to 1 MiB L2 for many.
constexpr int kMinTilePixels = 64;
constexpr int kMaxTilePixels = 1024;
constexpr int kTileBytes = 160 * 1024;

constexpr int cpu_tile_pixels(int64_t classes, int compute_bytes) {
  int pixels = kMaxTilePixels;
  while (pixels > kMinTilePixels && classes * pixels * compute_bytes > kTileBytes) pixels /= 2;
  return pixels;
}

}  // namespace jml
