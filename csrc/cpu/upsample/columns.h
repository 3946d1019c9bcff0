// Polyphase lanes. The full pixels of a row between low columns x and x + 1, a cell, are numbered by
// their phase: 0, 1, ... A vector is one phase of neighbouring cells. Its corners are then plain
// vectors of low rows, its weights one vector, and the transposed interpolation needs no shuffle:
// it is lower += (1 - weight) g, upper += weight g.
//
// With a whole ratio and align_corners=False a lane is not a cell but a low column with the pixels
// that are nearest to it, s = full / low of them: column `lane` of the full size is s lane + phase,
// and the corners of the first phases are the low columns lane - 1 and lane.
#pragma once

#include "cells.h"
#include "lanes.h"
#include "../phases.h"
#include "../tile.h"

namespace jml::JML_ISA {

struct PolyphaseColumns {
  int phases = 0, lanes = 0;
  int padded = 0, groups = 0;       // lanes up to a multiple of kLanes, and vectors of them
  bool is_uniform = false;          // whether lanes are low columns
  int64_t width = 0;                // of the full size
  int first_low = 0;                // the least `offset`
  std::unique_ptr<int[]> offset;    // phases: the lower neighbour of lane 0
  std::unique_ptr<int32_t[]> full;  // phases x padded: the full column, -1 if there is none
  std::unique_ptr<float[]> weight;  // phases x padded: of the upper neighbour
  std::unique_ptr<uint8_t[]> used;  // phases x groups: whether a lane has a column

  PolyphaseColumns(int64_t low, int64_t width, bool align_corners) : width(width) {
    const Cells cells(low, width, align_corners);
    is_uniform = !align_corners && width % low == 0 && width > low;
    phases = int(is_uniform ? width / low : most_pixels(cells));
    lanes = int(is_uniform ? low : cells.count());
    groups = (lanes + kLanes - 1) / kLanes;
    padded = groups * kLanes;
    first_low = int(cells.first_low);
    offset.reset(new int[phases]);
    full.reset(new int32_t[phases * padded]);
    weight.reset(new float[phases * padded]());
    used.reset(new uint8_t[phases * groups]());
    fill(full.get(), phases * padded, int32_t(-1));
    for (int phase = 0; phase < phases; ++phase) {
      offset[phase] = is_uniform ? (2 * phase + 1 < phases ? -1 : 0) : first_low;
      for (int lane = 0; lane < lanes; ++lane) {
        if (!is_uniform && phase >= cells.pixels(lane)) continue;
        const int64_t x = is_uniform ? lane * phases + phase : cells.begin[lane] + phase;
        full[phase * padded + lane] = int32_t(x);
        weight[phase * padded + lane] = float(cells.place[x] - (lane + offset[phase]));
        used[phase * groups + lane / kLanes] = 1;
      }
    }
  }

  // How many low columns the lanes of a vector touch, beginning at first_low: that many shifted
  // vectors take their gradient.
  int shifts() const { return is_uniform ? 3 : 2; }

  // A row of pixels to rows of its phases, `none` where a lane has no pixel.
  void spread(const int32_t* row, int32_t none, int32_t* to) const {
    int first = 0;  // lanes before it are done
    if (is_uniform && phases == 2) first = spread_vectors<2>(row, to);
    if (is_uniform && phases == 4) first = spread_vectors<4>(row, to);
    if (is_uniform && phases == 8) first = spread_vectors<8>(row, to);
    for (int phase = 0; phase < phases; ++phase) {
      int32_t* __restrict out = to + phase * padded;
      if (is_uniform) {
        for (int lane = first; lane < lanes; ++lane) out[lane] = row[lane * phases + phase];
        for (int lane = lanes; lane < padded; ++lane) out[lane] = none;
      } else {
        const int32_t* x = full.get() + phase * padded;
        for (int lane = 0; lane < padded; ++lane) out[lane] = x[lane] < 0 ? none : row[x[lane]];
      }
    }
  }

 private:
  // Whole vectors of lanes; returns how many lanes these are. Shuffles take integers as they take
  // floats.
  template <int kPhases>
  int spread_vectors(const int32_t* row, int32_t* to) const {
    int lane = 0;
    for (; lane + kLanes <= lanes; lane += kLanes) {
      Lanes vectors[kPhases];
      memcpy(vectors, row + lane * kPhases, sizeof(vectors));
      split_phases<kPhases, float>(vectors);
      for (int phase = 0; phase < kPhases; ++phase)
        memcpy(to + phase * padded + lane, &vectors[phase], sizeof(Lanes));
    }
    return lane;
  }

  static int64_t most_pixels(const Cells& cells) {
    int64_t most = 0;
    for (int64_t cell = 0; cell < cells.count(); ++cell) most = std::max(most, cells.pixels(cell));
    return most;
  }
};

}  // namespace jml::JML_ISA
