// How pixels of full size lie between those of lower resolution along one dimension, as
// torch.nn.functional.interpolate has it: pixel i is
//
//     (1 - weight) low[lower] + weight low[upper]
//
// where lower and weight are the whole and the fractional part of its place among the low pixels,
//
//     (i + 1/2) low / full - 1/2, and 0 where that is less;
//     i (low - 1) / (full - 1) with align_corners, where the first and the last pixels of both sizes
//     coincide, and not their edges.
//
// The place is kept as the fraction (i step + offset) / unit of integers. It is exact: which low
// pixels are meant does not depend on how a compiler rounds, and in float32 the weights of pixels far
// from the origin would lose digits.
#pragma once

#include <cstdint>
#include <numeric>

#include "pixel_math.h"

namespace jml {

struct Axis {
  int64_t low = 1, full = 1;
  int64_t step = 1, offset = 0, unit = 1;

  // Whether pixels lie between low ones; of equal sizes each pixel is one.
  JML_MATH bool is_interpolated() const { return low != full; }
  // The place of a pixel, in units.
  JML_MATH int64_t place(int64_t i) const {
    const int64_t place = i * step + offset;
    return place < 0 ? 0 : place;
  }
  // Beyond the outer low pixels everything is as these are.
  JML_MATH int64_t upper(int64_t lower) const {
    return is_interpolated() && lower + 1 < low ? lower + 1 : lower;
  }
};

inline Axis axis_of(int64_t low, int64_t full, bool align_corners) {
  Axis axis{low, full};
  if (low == full) return axis;
  axis.step = align_corners ? low - 1 : 2 * low;
  axis.offset = align_corners ? 0 : low - full;
  axis.unit = align_corners ? full - 1 : 2 * full;
  const int64_t common = std::gcd(std::gcd(axis.step, axis.unit), axis.offset);
  axis.step /= common;
  axis.offset /= common;
  axis.unit /= common;
  return axis;
}

}  // namespace jml
