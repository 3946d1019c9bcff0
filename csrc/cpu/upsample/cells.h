// Cells: the pixels of full size between two neighbouring low ones, along one dimension. Unlike the
// tables of ../upsampling.h, which they coincide with, what lies before the first low pixel or
// beyond the last makes cells of its own, whose two low pixels are the same one: within a cell
// interpolated numbers are always an arithmetic progression.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace jml {

struct Cells {
  int64_t low = 1, full = 1;
  int64_t first_low = 0;          // of cell 0, which lies between this low pixel and the next one
  double step = 0;                // from a pixel to the next, in low ones
  std::vector<int64_t> begin;     // cells + 1: the first pixel of a cell
  std::vector<double> place;      // full: of a pixel, in low ones

  Cells(int64_t low, int64_t full, bool align_corners) : low(low), full(full), place(full) {
    const bool inside = align_corners || low == full;  // no pixel lies beyond the outer low ones
    first_low = inside ? 0 : -1;
    const int64_t count = inside ? std::max<int64_t>(1, low - 1) : low + 1;
    step = !align_corners || low == full ? double(low) / double(full)
           : full > 1                    ? double(low - 1) / double(full - 1)
                                         : 0.0;
    begin.assign(count + 1, full);
    for (int64_t i = full - 1; i >= 0; --i) {
      place[i] = inside ? step * double(i) : step * (double(i) + 0.5) - 0.5;
      const int64_t cell = int64_t(std::floor(place[i])) - first_low;
      begin[std::clamp<int64_t>(cell, 0, count - 1)] = i;
    }
    for (int64_t cell = count - 1; cell >= 0; --cell)
      begin[cell] = std::min(begin[cell], begin[cell + 1]);
    begin[0] = 0;
  }

  int64_t count() const { return int64_t(begin.size()) - 1; }
  int64_t pixels(int64_t cell) const { return begin[cell + 1] - begin[cell]; }
  // The low pixels of a cell.
  int64_t lower(int64_t cell) const { return std::clamp<int64_t>(cell + first_low, 0, low - 1); }
  int64_t upper(int64_t cell) const { return std::clamp<int64_t>(cell + first_low + 1, 0, low - 1); }
  // Where a pixel lies in its cell, from 0 to 1.
  double weight(int64_t cell, int64_t i) const { return place[i] - double(cell + first_low); }
};

}  // namespace jml
