// The sums of a block: a number in double precision for each column and class.
//
// Most of them grow by rows: a term of one class is added up over a thread's pixels, then over the
// lanes, and then added to its sum. What there is only at the label, one number for each pixel,
// goes to bins. Each lane has its own bin for every class of its warp, or takes turns at one with
// another lane, so that nothing is atomic and the order of the sums is fixed. The bins hold a few tiles
// in single precision before they are emptied into the sums.
#pragma once

#include "pixel_state.cuh"

namespace jml::cuda {

// What is summed at the label, in the order of the bins.
enum Bin { kBinTruePositive, kBinFalseNegative, kBinFalsePositive, kBins };
// The largest target at the label of a class, which takes one of two values where there is one.
enum LargestTarget : uint8_t { kNoLabel, kSmoothedLabel, kHardLabel };

template <class C>
struct Sums {
  using F = typename C::F;
  static constexpr int K = C::K;
  static constexpr bool kHasBins = C::kLabels && !C::kGeneral;
  // Labels without smoothing have no false positives at the label. Their largest target is 1 where
  // there are any, which the number of them tells.
  static constexpr int kUsedBins = !kHasBins ? 0 : C::kHard ? 2 : kBins;
  static constexpr bool kHasLargestTargets = kHasBins && !C::kHard;
  static constexpr int kTilesInBins = 16;
  static constexpr int kBinLanes = C::kBinLanes;  // that have bins; the others share them

  double* sums;              // [slots][classes]: in shared memory, or the block's partial sums
  F* bins;                   // [kUsedBins][K][kBinLanes] of the warp
  uint8_t* largest_targets;  // [K][kBinLanes] of the warp
  int classes, lane;
  int owned_class;  // the class of the warp whose rows the lane adds to their sum, or -1

  // General kernels add to partial sums in global memory: shared memory may have no room for all
  // their classes.
  static int64_t shared_bytes(int warps, int slots, int64_t classes) {
    return (C::kGeneral ? 0 : slots * classes * int64_t(sizeof(double))) +
           int64_t(warps) * K * kBinLanes * (kUsedBins * int64_t(sizeof(F)) + kHasLargestTargets);
  }

  JML_DEVICE Sums(const Arguments& args, const Team& team, unsigned char* memory, double* partials)
      : sums(C::kGeneral ? partials : reinterpret_cast<double*>(memory)),
        classes(int(args.classes)),
        lane(team.lane),
        owned_class(scattered_to<K>(team.lane)) {
    const int64_t count = args.slots.count * classes;
    F* const all_bins = reinterpret_cast<F*>(memory + (C::kGeneral ? 0 : count * sizeof(double)));
    bins = all_bins + team.warp * kUsedBins * K * kBinLanes;
    largest_targets = reinterpret_cast<uint8_t*>(all_bins + team.warps * kUsedBins * K * kBinLanes) +
                      team.warp * K * kBinLanes;
    for (int64_t i = team.rank(); i < count; i += team.threads()) sums[i] = 0;
    for (int i = lane; i < kUsedBins * K * kBinLanes; i += kLanes) bins[i] = 0;
    for (int i = lane; kHasLargestTargets && i < K * kBinLanes; i += kLanes)
      largest_targets[i] = kNoLabel;
    team.sync();
  }

  // Adds to the sums of a column, or raises its maxima. term(k) is that of a thread's pixels.
  template <typename Op, typename Term>
  JML_DEVICE void add_row(int slot, const TileRange& range, Term term) {
    if (slot < 0) return;
    F values[K] = {};
#pragma unroll
    for (int k = 0; k < K; ++k)
      if (k < range.classes) values[k] = term(k);
    put<Op>(slot, range, over_lanes<Op>(values));
  }

  // What all lanes' numbers of a class make, for the class that the lane owns.
  template <typename Op>
  JML_DEVICE F over_lanes(F (&values)[K]) const {
    scatter_over_lanes<Op, K>(values, lane);
    return values[0];
  }

  // Adds such a number to the sum of a column, or raises its maximum.
  template <typename Op>
  JML_DEVICE void put(int slot, const TileRange& range, double number) {
    if (slot < 0 || owned_class < 0 || owned_class >= range.classes) return;
    double& sum = sum_of(slot, range.first_class + owned_class);
    sum = Op::apply(sum, number);
  }

  // Adds the rows of classes that are not the label, of which some pixels' targets are `target`: the
  // smaller one of target and p is what they share, and what p has beyond it is a false positive. What
  // targets have beyond it is a false negative: their sum over all of the warp's smoothed pixels, less
  // what they share with p, and less those where the class is the label, which the label's own terms
  // take off. Where p is NaN the false positive has to be NaN too.
  JML_DEVICE void add_smoothed_rows(const Slots& slots, const TileRange& range, F (&shared)[K],
                                    F (&beyond)[K], int smoothed_pixels, F target) {
    put<Add>(slots.of_labels[kFalsePositive], range, over_lanes<Add>(beyond));
    const F sum = over_lanes<Add>(shared);
    put<Add>(slots.of_labels[kTruePositive], range, sum);
    put<Add>(slots.of_labels[kFalseNegative], range, smoothed_pixels * double(target) - sum);
    // At its own class a label has no smaller target than elsewhere.
    put<Largest>(slots.of_labels[kTargetMax], range, target);
  }

  // Makes the numbers of some of the warp's classes 1: `which` has a bit for each class.
  JML_DEVICE void mark(int slot, const TileRange& range, unsigned which) {
    if (owned_class >= 0 && owned_class < range.classes && (which >> owned_class & 1))
      sum_of(slot, range.first_class + owned_class) = 1;
  }

  JML_DEVICE F& bin(Bin which, int k) const {
    return bins[(which * K + k) * kBinLanes + lane % kBinLanes];
  }

  JML_DEVICE void raise_largest_target(int k, LargestTarget target) {
    uint8_t& largest = largest_targets[k * kBinLanes + lane % kBinLanes];
    largest = target > largest ? uint8_t(target) : largest;
  }

  // Empties the bins into the sums. Each lane takes a class and begins with its own bin, so that
  // few lanes read from the same bank.
  JML_DEVICE void empty_bins(const Slots& slots, const TileRange& range,
                             F smoothed_target_at_label) {
    constexpr int kColumn[kBins] = {kTruePositive, kFalseNegative, kFalsePositive};
    __syncwarp();
    if (lane < range.classes) {
#pragma unroll
      for (int bin = 0; bin < kUsedBins; ++bin) {
        double total = 0;
#pragma unroll 4  // or the addresses of all 32 are kept in registers
        for (int i = 0; i < kBinLanes; ++i) {
          F& number = bins[(bin * K + lane) * kBinLanes + (i + lane) % kBinLanes];
          total += double(number);
          number = 0;
        }
        const int slot = slots.of_labels[kColumn[bin]];
        if (slot >= 0) sum_of(slot, range.first_class + lane) += total;
      }
      const int slot = slots.of_labels[kTargetMax];
      if (kHasLargestTargets && slot >= 0) {
        int largest = kNoLabel;
        for (int i = 0; i < kBinLanes; ++i) {
          const int target = largest_targets[lane * kBinLanes + (i + lane) % kBinLanes];
          largest = target > largest ? target : largest;
        }
        const double value = largest == kHardLabel       ? 1.0
                             : largest == kSmoothedLabel ? double(smoothed_target_at_label)
                                                         : 0;
        double& sum = sum_of(slot, range.first_class + lane);
        sum = Largest::apply(sum, value);
      }
    }
    __syncwarp();
  }

  JML_DEVICE double& sum_of(int slot, int c) const { return sums[slot * classes + c]; }
};

}  // namespace jml::cuda
