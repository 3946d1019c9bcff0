// The forward kernel of cells.cuh: sums of a block, as forward.cuh makes them.
//
//     row of a run -> sum of exponentials -> p -> sum of p of each class, of the label's terms, and of
//                                                 each pixel's numbers
//
// A thread has these sums in registers for some rows, in single precision. Those of a label go to its
// bin when the label changes. In rows of a warp where labels are smoothed, what p shares with the target
// of each class has a sum beside that of what p has beyond it.
#pragma once

#include "cells.cuh"

namespace jml::cuda {

template <class C>
struct CellsForward : Cells<C> {
  using Base = Cells<C>;
  using F = typename Base::F;
  using Base::args, Base::exponential, Base::label_in_warp, Base::range, Base::team;
  static constexpr int K = C::K;
  static constexpr int kRowsInSums = 64;  // after which these are added up

  Sums<C> sums;
  // What is summed of a block's pixels, of the first warp: [kUsedTotals][lanes].
  static constexpr int kUsedTotals = 3;
  JML_DEVICE static constexpr BlockTotal used(int i) {
    return i == 0 ? kPixelsCounted : i == 1 ? kLabelWeight : kLabelCrossEntropy;
  }
  double* totals;
  static constexpr int kSmoothed = C::kHard ? 1 : K;  // classes that have what smoothing needs
  const F target_elsewhere, label_deficit;            // of smoothed labels
  F false_positives[K] = {}, shared[kSmoothed] = {};
  int smoothed_pixels = 0;  // of the warp
  // Of the label, and the largest target as a LargestTarget.
  F true_positive = 0, false_positive = 0, false_negative = 0, largest_target = kNoLabel;
  F counted = 0, label_weight = 0, cross_entropy = 0;
  typename Base::Weighted weighted{};
  int weighted_low_row = -1;  // where the weighted logits are of, and below it

  static constexpr int64_t totals_bytes() {
    return kUsedTotals * kLanes * int64_t(sizeof(double));
  }
  static int64_t shared_bytes(const Arguments& args, int warps) {
    return Base::shared_bytes(args, warps) + totals_bytes() +
           Sums<C>::shared_bytes(warps, args.slots.count, args.classes);
  }

  JML_DEVICE explicit CellsForward(const Arguments& args)
      : Base(args),
        sums(args, team, Base::free_memory() + totals_bytes(),
             args.partials + blockIdx.x * args.partials_per_block),
        totals(reinterpret_cast<double*>(Base::free_memory()) + team.lane),
        target_elsewhere(F(args.target_elsewhere)),
        label_deficit(F(args.label_deficit)) {
    if (team.warp == 0)
      for (int i = 0; i < kUsedTotals; ++i) totals[i * kLanes] = 0;
  }

  // The pixels of 32 columns between two low rows are a piece of work. The blocks of an image share
  // these out, in an order that goes down the columns.
  JML_DEVICE void run() {
    const int low_rows = int(args.logits_spatial[0]), width = int(args.spatial[2]);
    const int64_t pieces = int64_t{low_rows} * ((width + kLanes - 1) / kLanes);
    const int part = int(blockIdx.x) % args.parts;
    int piece = int(part * pieces / args.parts);
    const int end = int((part + 1) * pieces / args.parts);
    int strip = piece / low_rows, low_row = piece - strip * low_rows;
    int first = int(first_pixel_at(args.logits_axes.of[0], low_row)), rows_in_sums = 0;
    Base::take_column(strip * kLanes + team.lane, width);
#pragma unroll 1
    for (; piece < end; ++piece) {
      const int next = Base::go_through(
          low_row, first, [&](const Run& run, int row, int code) { add_row(run, row, code); },
          [&] { leave_label(); });
      rows_in_sums += next - first;
      first = next;
      if (rows_in_sums >= kRowsInSums || piece + 1 == end) {
        flush();
        rows_in_sums = 0;
      }
      if (++low_row < low_rows) continue;
      low_row = first = 0;
      weighted_low_row = -1;
      Base::take_column(++strip * kLanes + team.lane, width);
    }
    write();
  }

 private:
  JML_DEVICE void add_row(const Run& run, int row, int code) {
    F others[2] = {};  // two sums: an addition waits for the one before
#pragma unroll
    for (int k = 0; k < K; ++k) others[k % 2] += exponential[k];
    F numbers[2] = {others[0] + others[1], Base::label_exponential};
    Base::template over_classes<Add>(numbers);
    const typename Base::Softmax softmax(code, numbers[0], numbers[1]);
    const bool some_smoothed = !C::kHard && __any_sync(kAllLanes, Base::smoothed(code));
    if (some_smoothed) {
      add_smoothed(code, softmax.inverse_sum);
    } else {
#pragma unroll
      for (int k = 0; k < K; ++k) false_positives[k] += exponential[k] * softmax.inverse_sum;
    }
    if (label_in_warp >= 0) add_label(code, softmax);
    const bool has_cross_entropy = args.label_columns.requested(kCrossEntropy);
    if (some_smoothed && has_cross_entropy && run.lower != weighted_low_row) {
      weighted = Base::find_weighted(run);
      weighted_low_row = run.lower;
    }
    if (team.warp != 0 || !Base::valid(code)) return;
    counted += 1 + Base::poison(code);
    if ((has_cross_entropy || args.ce_class_weights.data) && Base::label_of(code) >= 0)
      add_weighted(run, row, code, softmax, has_cross_entropy);
  }

  // A row in which labels are smoothed: of the classes that are not the label, as Sums has it.
  JML_DEVICE void add_smoothed(int code, F inverse_sum) {
    smoothed_pixels += __popc(__ballot_sync(kAllLanes, Base::smoothed(code)));
    const F target = Base::smoothed(code) ? target_elsewhere : F(0);
#pragma unroll
    for (int k = 0; k < K; ++k) {
      const F p = exponential[k] * inverse_sum, smaller = Least::apply(p, target);
      shared[C::kHard ? 0 : k] += smaller;
      false_positives[k] += p - smaller;
    }
  }

  // The label's own terms, as forward.cuh has them.
  JML_DEVICE void add_label(int code, const typename Base::Softmax& softmax) {
    if constexpr (C::kHard) {
      true_positive += softmax.p_label;
      false_negative += softmax.p_not_label;
    } else {
      const bool smoothed = Base::smoothed(code);
      const F deficit = smoothed ? label_deficit : F(0), gap = softmax.p_not_label - deficit;
      true_positive += gap > 0 ? softmax.p_label : 1 - deficit;
      false_positive += gap > 0 ? F(0) : -gap;
      false_negative += (gap > 0 ? gap : F(0)) - (smoothed ? target_elsewhere : F(0));
      largest_target = LargestNumber::apply(largest_target, smoothed ? kSmoothedLabel : kHardLabel);
    }
  }

  // -log p at the label, and at every other class where it is smoothed: their sum with the weights w is
  // that over all classes less the label's, and -log p is log(sum of e^z) - z.
  JML_DEVICE void add_weighted(const Run& run, int row, int code,
                               const typename Base::Softmax& softmax, bool has_cross_entropy) {
    const F weight = F(args.ce_class_weights.at(Base::label_of(code))) + Base::poison(code);
    label_weight += weight;
    if (!has_cross_entropy) return;
    // -log p = log(1 + sum of others / e^z). Of a row that is taken by itself e^z may have underflown.
    constexpr F kSmallest = F(1e-36);
    const F e = softmax.label_exponential;
    const F negative_log = e > kSmallest
                               ? log1p_of(softmax.sum_of_others * reciprocal(e))
                               : log(softmax.sum_of_others + e) + Base::label_gap(run, row, code);
    if (C::kHard || !Base::smoothed(code)) {
      cross_entropy += weight * negative_log;
      return;
    }
    cross_entropy += (1 - label_deficit) * weight * negative_log;
    if (isinf(negative_log)) return;  // so is the sum over all classes
    const F share = run.weight_of(row), log_sum = log(softmax.sum_of_others + e) + Base::line;
    const F of_all =
        weighted.weights * log_sum - ((1 - share) * weighted.above + share * weighted.below);
    cross_entropy += target_elsewhere * (of_all - weight * negative_log);
  }

  JML_DEVICE void leave_label() {
#pragma unroll 1
    for (int turn = 0; turn < kLanes / C::kBinLanes; ++turn) {
      if (label_in_warp >= 0 && team.lane / C::kBinLanes == turn) {
        sums.bin(kBinTruePositive, label_in_warp) += true_positive;
        sums.bin(kBinFalseNegative, label_in_warp) += false_negative;
        if constexpr (!C::kHard) {
          sums.bin(kBinFalsePositive, label_in_warp) += false_positive;
          sums.raise_largest_target(label_in_warp, LargestTarget(int(largest_target)));
        }
      }
      __syncwarp();
    }
    true_positive = false_positive = false_negative = largest_target = 0;
  }

  JML_DEVICE void flush() {
    leave_label();
    if (smoothed_pixels > 0) {
      if constexpr (!C::kHard)
        sums.add_smoothed_rows(args.slots, range, shared, false_positives, smoothed_pixels,
                               target_elsewhere);
    } else {
      sums.template add_row<Add>(args.slots.of_labels[kFalsePositive], range,
                                 [&](int k) { return false_positives[k]; });
    }
    sums.empty_bins(args.slots, range, 1 - label_deficit);
    smoothed_pixels = 0;
#pragma unroll
    for (int k = 0; k < kSmoothed; ++k) shared[k] = 0;
#pragma unroll
    for (int k = 0; k < K; ++k) false_positives[k] = 0;
    if (team.warp != 0) return;
    const F of_rows[kUsedTotals] = {counted, label_weight, cross_entropy};
#pragma unroll
    for (int i = 0; i < kUsedTotals; ++i) totals[i * kLanes] += double(of_rows[i]);
    counted = label_weight = cross_entropy = 0;
  }

  JML_DEVICE void write() {
    double* const partials = args.partials + blockIdx.x * args.partials_per_block;
    const int64_t count = args.slots.count * args.classes;
    team.sync();
    for (int64_t i = team.rank(); i < count; i += team.threads()) partials[i] = sums.sums[i];
    if (team.warp != 0) return;
#pragma unroll
    for (int i = 0; i < kUsedTotals; ++i) {
      const double sum = sum_over_lanes(totals[i * kLanes]);
      if (team.lane == 0) partials[count + used(i)] = sum;
    }
  }
};

template <class C>
__global__ void __launch_bounds__(C::kMaxThreads, C::kMinBlocks)
    cells_forward_kernel(const __grid_constant__ Arguments args) {
  CellsForward<C>(args).run();
}

}  // namespace jml::cuda
