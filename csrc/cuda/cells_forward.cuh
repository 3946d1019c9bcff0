// The forward kernel of cells.cuh: sums of a block, as forward.cuh makes them.
//
//     row of a run -> sum of exponentials -> p -> sum of p of each class, of the label's p and 1 - p,
//                                                 and of each pixel's numbers
//
// A thread has these sums in registers for some rows, in single precision. Those of a label go to its
// bin when the label changes.
#pragma once

#include "cells.cuh"

namespace jml::cuda {

template <class C>
struct CellsForward : Cells<C> {
  using Base = Cells<C>;
  using F = typename Base::F;
  using Base::args, Base::exponential, Base::label_in_warp, Base::range, Base::team;
  static constexpr int K = C::K;
  static constexpr int kRowsInSums = 24;  // after which these are added up

  Sums<C> sums;
  double* totals;  // [kBlockTotals][lanes], of the first warp
  F false_positives[K] = {};
  F true_positive = 0, false_negative = 0;  // of the label
  F counted = 0, label_weight = 0, cross_entropy = 0;

  static constexpr int64_t totals_bytes() {
    return kBlockTotals * kLanes * int64_t(sizeof(double));
  }
  static int64_t shared_bytes(const Arguments& args, int warps) {
    return Base::shared_bytes(warps, 1) + totals_bytes() +
           Sums<C>::shared_bytes(warps, args.slots.count, args.classes);
  }

  JML_DEVICE explicit CellsForward(const Arguments& args)
      : Base(args),
        sums(args, team, Base::free_memory() + totals_bytes(),
             args.partials + blockIdx.x * args.partials_per_block),
        totals(reinterpret_cast<double*>(Base::free_memory()) + team.lane) {
    if (team.warp == 0)
      for (int i = 0; i < kBlockTotals; ++i) totals[i * kLanes] = 0;
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
#pragma unroll
    for (int k = 0; k < K; ++k) false_positives[k] += exponential[k] * softmax.inverse_sum;
    if (label_in_warp >= 0) {
      true_positive += softmax.p_label;
      false_negative += softmax.p_not_label;
    }
    if (team.warp != 0 || !Base::valid(code)) return;
    counted += 1 + Base::poison(code);
    const bool has_cross_entropy = args.label_columns.requested(kCrossEntropy);
    if ((has_cross_entropy || args.ce_class_weights.data) && Base::label_of(code) >= 0)
      add_weighted(run, row, code, softmax, has_cross_entropy);
  }

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
    cross_entropy += weight * negative_log;
  }

  JML_DEVICE void leave_label() {
    if (label_in_warp >= 0) {
      sums.bin(kBinTruePositive, label_in_warp) += true_positive;
      sums.bin(kBinFalseNegative, label_in_warp) += false_negative;
    }
    true_positive = false_negative = 0;
  }

  JML_DEVICE void flush() {
    leave_label();
    sums.template add_row<Add>(args.slots.of_labels[kFalsePositive], range,
                               [&](int k) { return false_positives[k]; });
    sums.empty_bins(args.slots, range, F(1));
#pragma unroll
    for (int k = 0; k < K; ++k) false_positives[k] = 0;
    if (team.warp != 0) return;
    totals[kPixelsCounted * kLanes] += double(counted);
    totals[kLabelWeight * kLanes] += double(label_weight);
    totals[kLabelCrossEntropy * kLanes] += double(cross_entropy);
    counted = label_weight = cross_entropy = 0;
  }

  JML_DEVICE void write() {
    double* const partials = args.partials + blockIdx.x * args.partials_per_block;
    const int64_t count = args.slots.count * args.classes;
    team.sync();
    for (int64_t i = team.rank(); i < count; i += team.threads()) partials[i] = sums.sums[i];
    if (team.warp != 0) return;
    for (int i = 0; i < kBlockTotals; ++i) {
      const double sum = sum_over_lanes(totals[i * kLanes]);
      if (team.lane == 0) partials[count + i] = sum;
    }
  }
};

template <class C>
__global__ void __launch_bounds__(C::kMaxThreads, C::kMinBlocks)
    cells_forward_kernel(const __grid_constant__ Arguments args) {
  CellsForward<C>(args).run();
}

}  // namespace jml::cuda
