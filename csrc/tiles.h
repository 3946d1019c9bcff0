// Tiles: how many pixels a kernel holds at once, with all their classes. A fixed table, tuned
// offline: choosing at run time would change the order of sums, and so the bits.
#pragma once

#include <cstdint>

namespace jml {

// CPU. A row of the tile is one class. Up to four tiles are at work: logits and a dense target, and
// the next ones, which are copied meanwhile. Measured on Zen 4 (1 MiB of L2), forward + backward of
// float32, in ns for 8 elements:
//     19 classes   256 pixels 4.0 + 6.4   512 pixels 3.5 + 4.1   1024 pixels 3.4 + 4.0
//     150 classes  128 pixels 4.0 + 7.6   256 pixels 3.3 + 5.3   1024 pixels 3.0 + 5.8
// 1024 float32 pixels are a page of memory, as far as hardware prefetches, and their gradients are
// written past the caches in whole pages. 1024 pixels of 150 classes leave L2.
constexpr int kMinTilePixels = 64;
constexpr int kMaxTilePixels = 1024;
constexpr int kTileBytes = 160 * 1024;

constexpr int cpu_tile_pixels(int64_t classes, int compute_bytes) {
  int pixels = kMaxTilePixels;
  while (pixels > kMinTilePixels && classes * pixels * compute_bytes > kTileBytes) pixels /= 2;
  return pixels;
}

}  // namespace jml
