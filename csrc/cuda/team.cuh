// The threads of a block, as they work on one tile: its warps share out the classes, and the lanes
// of a warp the pixels.
#pragma once

#include "../pixel_math.h"
#include "platform.cuh"

namespace jml::cuda {

struct Team {
  int lane, warp, warps;

  // The shuffle tells the compiler that all lanes of a warp have the same number, so that branches
  // on it need no reconvergence.
  JML_DEVICE Team()
      : lane(threadIdx.x % kLanes),
        warp(__shfl_sync(kAllLanes, int(threadIdx.x) / kLanes, 0)),
        warps(blockDim.x / kLanes) {}

  JML_DEVICE int rank() const { return int(threadIdx.x); }
  JML_DEVICE int threads() const { return int(blockDim.x); }
  // A barrier. After it each thread sees what the others wrote to shared memory before.
  JML_DEVICE void sync() const {
    if (warps == 1)
      __syncwarp();
    else
      __syncthreads();
  }
};

// ---- over pixels: the lanes of a warp -------------------------------------------------------
// Every lane has a number for each of n classes. scatter_over_lanes adds up those of each class
// over the lanes, and leaves each sum with one lane. In each step a lane sends half of what it
// still has to its partner and keeps the other half, so that n numbers take about n shuffles, not
// 5 n.

struct Add {
  template <typename F>
  JML_DEVICE static F apply(F a, F b) {
    return a + b;
  }
  template <typename F>
  JML_DEVICE static constexpr F identity() {
    return F(0);
  }
};

// The maximum of numbers that are not negative.
struct Largest {
  template <typename F>
  JML_DEVICE static F apply(F a, F b) {
    return max_or_nan(a, b);
  }
  template <typename F>
  JML_DEVICE static constexpr F identity() {
    return F(0);
  }
};

template <typename Op, int n, int kOffset = kLanes / 2, typename F, int m>
JML_DEVICE void scatter_over_lanes(F (&values)[m], int lane) {
  constexpr int half = (n + 1) / 2;
  const bool upper = lane & kOffset;
#pragma unroll
  for (int i = 0; i < half; ++i) {
    const F low = values[i], high = i + half < n ? values[i + half] : Op::template identity<F>();
    const F sent = __shfl_xor_sync(kAllLanes, upper ? low : high, kOffset);
    values[i] = Op::apply(upper ? high : low, sent);
  }
  if constexpr (kOffset > 1) scatter_over_lanes<Op, half, kOffset / 2>(values, lane);
}

// Which of the n <= 32 sums a lane gets; -1 for none.
template <int n>
JML_DEVICE int scattered_to(int lane) {
  int size = n, first = 0, left = n;  // of the lane's `size` numbers, `left` are real ones
#pragma unroll
  for (int offset = kLanes / 2; offset > 0; offset /= 2) {
    const int half = (size + 1) / 2;
    if (lane & offset) {
      first += half;
      left -= half;
    } else {
      left = left < half ? left : half;
    }
    size = half;
  }
  return left > 0 ? first : -1;
}

// The sum over all lanes, which all of them get. Its order is always the same.
JML_DEVICE double sum_over_lanes(double value) {
#pragma unroll
  for (int offset = kLanes / 2; offset > 0; offset /= 2)
    value += __shfl_xor_sync(kAllLanes, value, offset);
  return value;
}

// ---- over classes: the warps of a block -----------------------------------------------------
// A minimum and a maximum that drop NaN. That of logits may do so, since their exponentials are NaN
// anyway.
struct Least {
  JML_DEVICE static float apply(float a, float b) { return fminf(a, b); }
  JML_DEVICE static double apply(double a, double b) { return fmin(a, b); }
};
struct LargestNumber {
  JML_DEVICE static float apply(float a, float b) { return fmaxf(a, b); }
  JML_DEVICE static double apply(double a, double b) { return fmax(a, b); }
};

// Shared memory through which the warps combine what each knows of the pixels of a tile.
template <typename F, int kPixels, int kMaxNumbers>
struct Exchange {
  F* of_warps;  // [numbers][warps][pixels]
  F* result;    // [numbers][pixels]

  static constexpr int size(int warps) {
    return warps == 1 ? 0 : kMaxNumbers * (warps + 1) * kPixels * kLanes;
  }
  JML_DEVICE Exchange(F* memory, const Team& team)
      : of_warps(memory), result(memory + kMaxNumbers * team.warps * kPixels * kLanes) {}

  // The first n of values[i][v] come in as those of a warp's classes and leave as those of all
  // classes. Two barriers part each use of `of_warps` and of `result` from the next one.
  template <typename Op, int n, int m>
  JML_DEVICE void over_warps(const Team& team, F (&values)[m][kPixels]) {
    static_assert(n <= m && n <= kMaxNumbers);
    constexpr int kTile = kPixels * kLanes;
    if (team.warps == 1) return;
#pragma unroll
    for (int i = 0; i < n; ++i)
#pragma unroll
      for (int v = 0; v < kPixels; ++v)
        of_warps[(i * team.warps + team.warp) * kTile + v * kLanes + team.lane] = values[i][v];
    __syncthreads();
    for (int j = team.rank(); j < n * kTile; j += team.threads()) {
      const F* numbers = of_warps + j / kTile * team.warps * kTile + j % kTile;
      F total = numbers[0];
      for (int warp = 1; warp < team.warps; ++warp) total = Op::apply(total, numbers[warp * kTile]);
      result[j] = total;
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < n; ++i)
#pragma unroll
      for (int v = 0; v < kPixels; ++v) values[i][v] = result[i * kTile + v * kLanes + team.lane];
  }
};

}  // namespace jml::cuda
