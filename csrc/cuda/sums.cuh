// The sums of a block: a number in double precision for each column and class.
//
// Rows, one class over the pixels of a tile, are added up over a thread's pixels, then over lanes,
// and then meet their sum. What there is only at the label, one number a pixel, goes to bins: each
// lane has its own for every class of its warp, so that nothing is atomic and the order of the sums
// is fixed. They hold a few tiles in single precision before they meet the sums.
#pragma once

#include "look.cuh"

namespace jml::cuda {

// At the label, in the order of the bins.
enum Bin { kBinTruePositive, kBinFalseNegative, kBinFalsePositive, kBins };
// What the largest target at a label was: it takes two values.
enum Seen : uint8_t { kSeenNone, kSeenSmoothed, kSeenHard };

template <class C>
struct Sums {
  using F = typename C::F;
  static constexpr int K = C::K;
  static constexpr bool kHasBins = C::kLabels && !C::kGeneral;
  // Labels without smoothing have no false positives at the label, and their number tells whether
  // there are any.
  static constexpr int kOwnBins = !kHasBins ? 0 : C::kHard ? 2 : kBins;
  static constexpr bool kSees = kHasBins && !C::kHard;
  static constexpr int kTilesInBins = 16;

  double* sums;  // [slots][classes]: in shared memory, or the block's row of partial sums
  F* bins;       // [kOwnBins][K][lanes] of the warp
  uint8_t* seen;  // [K][lanes] of the warp
  int classes, lane, owned;

  // General kernels add to the row in global memory: their classes may be too many for shared.
  static int64_t shared_bytes(int warps, int slots, int64_t classes) {
    return (C::kGeneral ? 0 : slots * classes * int64_t(sizeof(double))) +
           int64_t(warps) * K * kLanes * (kOwnBins * int64_t(sizeof(F)) + kSees);
  }

  JML_DEVICE Sums(const Arguments& args, const Team& team, unsigned char* memory, double* row)
      : sums(C::kGeneral ? row : reinterpret_cast<double*>(memory)),
        classes(int(args.classes)),
        lane(team.lane),
        owned(scattered_to<K>(team.lane)) {
    const int64_t count = args.slots.count * classes;
    F* const all_bins = reinterpret_cast<F*>(memory + (C::kGeneral ? 0 : count * sizeof(double)));
    bins = all_bins + team.warp * kOwnBins * K * kLanes;
    seen = reinterpret_cast<uint8_t*>(all_bins + team.warps * kOwnBins * K * kLanes) +
           team.warp * K * kLanes;
    for (int64_t i = team.rank(); i < count; i += team.threads()) sums[i] = 0;
    for (int i = lane; i < kOwnBins * K * kLanes; i += kLanes) bins[i] = 0;
    for (int i = lane; kSees && i < K * kLanes; i += kLanes) seen[i] = kSeenNone;
    team.sync();
  }

  // Adds to, or raises, the sums of a column: term(k) is that of a thread's pixels.
  template <typename Op, typename Term>
  JML_DEVICE void row(int slot, const TileAt& at, Term term) {
    if (slot < 0) return;
    F values[K] = {};
#pragma unroll
    for (int k = 0; k < K; ++k)
      if (k < at.classes) values[k] = term(k);
    scatter_over_lanes<Op, K>(values, lane);
    if (owned >= 0 && owned < at.classes) {
      double& sum = sum_of(slot, at.first_class + owned);
      sum = Op::apply(sum, double(values[0]));
    }
  }

  JML_DEVICE F& bin(Bin which, int k) const { return bins[(which * K + k) * kLanes + lane]; }

  JML_DEVICE void see(int k, Seen what) {
    uint8_t& most = seen[k * kLanes + lane];
    most = what > most ? uint8_t(what) : most;
  }

  // Empties the bins into the sums. A lane takes a class, and begins with its own bin: 32 lanes read
  // 32 banks. `on`: the target at a smoothed label.
  JML_DEVICE void empty_bins(const Slots& slots, const TileAt& at, F on) {
    constexpr int kColumn[kBins] = {kTruePositive, kFalseNegative, kFalsePositive};
    __syncwarp();
    if (lane < at.classes) {
#pragma unroll
      for (int which = 0; which < kOwnBins; ++which) {
        double total = 0;
        for (int i = 0; i < kLanes; ++i) {
          F& number = bins[(which * K + lane) * kLanes + (i + lane) % kLanes];
          total += double(number);
          number = 0;
        }
        const int slot = slots.of_labels[kColumn[which]];
        if (slot >= 0) sum_of(slot, at.first_class + lane) += total;
      }
      const int slot = slots.of_labels[kTargetMax];
      if (kSees && slot >= 0) {
        int most = kSeenNone;
        for (int i = 0; i < kLanes; ++i) {
          const int what = seen[lane * kLanes + (i + lane) % kLanes];
          most = what > most ? what : most;
        }
        double& sum = sum_of(slot, at.first_class + lane);
        sum = Largest::apply(sum, most == kSeenHard ? 1.0 : most == kSeenSmoothed ? double(on) : 0);
      }
    }
    __syncwarp();
  }

  JML_DEVICE double& sum_of(int slot, int c) const { return sums[slot * classes + c]; }
};

}  // namespace jml::cuda
