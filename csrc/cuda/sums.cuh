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
enum Bin { kBinTruePositive, kBinFalseNegative, kBinFalsePositive, kBinTargetMax, kBins };

template <class C>
struct Sums {
  using F = typename C::F;
  static constexpr int K = C::K;
  static constexpr bool kHasBins = C::kLabels && !C::kGeneral;
  // Labels without smoothing have no false positives at the label, and need no maximum.
  static constexpr int kOwnBins = !kHasBins ? 0 : C::kHard ? 2 : kBins;
  static constexpr int kTilesInBins = 16;

  double* sums;  // [slots][classes]: in shared memory, or the block's row of partial sums
  F* bins;       // [kOwnBins][K][lanes] of the warp
  int classes, lane, owned;

  // General kernels add to the row in global memory: their classes may be too many for shared.
  static int64_t shared_bytes(int warps, int slots, int64_t classes) {
    return (C::kGeneral ? 0 : slots * classes * int64_t(sizeof(double))) +
           int64_t(kOwnBins) * warps * K * kLanes * int64_t(sizeof(F));
  }

  JML_DEVICE Sums(const Arguments& args, const Team& team, unsigned char* memory, double* row)
      : sums(C::kGeneral ? row : reinterpret_cast<double*>(memory)),
        classes(int(args.classes)),
        lane(team.lane),
        owned(scattered_to<K>(team.lane)) {
    const int64_t count = args.slots.count * classes;
    bins = reinterpret_cast<F*>(memory + (C::kGeneral ? 0 : count * sizeof(double))) +
           team.warp * kOwnBins * K * kLanes;
    for (int64_t i = team.rank(); i < count; i += team.threads()) sums[i] = 0;
    for (int i = lane; i < kOwnBins * K * kLanes; i += kLanes) bins[i] = 0;
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
      double& sum = sums[slot * classes + at.first_class + owned];
      sum = Op::apply(sum, double(values[0]));
    }
  }

  JML_DEVICE F& bin(Bin which, int k) const { return bins[(which * K + k) * kLanes + lane]; }

  // Empties the bins into the sums. A lane takes a class, and begins with its own bin: 32 lanes read
  // 32 banks.
  JML_DEVICE void empty_bins(const Slots& slots, const TileAt& at) {
    constexpr int kColumn[kBins] = {kTruePositive, kFalseNegative, kFalsePositive, kTargetMax};
    __syncwarp();
#pragma unroll
    for (int which = 0; which < kOwnBins; ++which) {
      if (lane >= at.classes) break;
      double total = 0;
      for (int i = 0; i < kLanes; ++i) {
        F& number = bins[(which * K + lane) * kLanes + (i + lane) % kLanes];
        total = which == kBinTargetMax ? Largest::apply(total, double(number))
                                       : total + double(number);
        number = 0;
      }
      const int slot = slots.of_labels[kColumn[which]];
      if (slot < 0) continue;
      double& sum = sums[slot * classes + at.first_class + lane];
      sum = which == kBinTargetMax ? Largest::apply(sum, total) : sum + total;
    }
    __syncwarp();
  }
};

}  // namespace jml::cuda
