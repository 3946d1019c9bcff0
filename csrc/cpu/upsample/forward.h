// The forward of upsampled logits against integer labels: statistics of the rows of a chunk of cells.
//
//     low rows, labels -> exponentials and their sums of a vector of pixels (powers.h)
//                      -> terms of each class, summed up in lanes -> partial sums of the chunk
//
// With hard labels a class that is no pixel's label gets one number, its probability.
#pragma once

#include "../label_sums.h"
#include "rows.h"

namespace jml::JML_ISA {

class UpsampleForward : UpsampleRows {
 public:
  explicit UpsampleForward(const Arguments& args)
      : UpsampleRows(args),
        makes_entropy(args.label_columns.requested(kCrossEntropy)),
        totals(new FoldedSum[kTerms * args.classes + 1]),
        seen(new uint8_t[2 * (args.classes + 1)]) {
    reserve([&](Memory& memory) {
      UpsampleRows::allocate(memory);
      memory.allocate(lanes, (kTerms * args.classes + 1) * kLanes);
    });
    fill(lanes, (kTerms * classes + 1) * kLanes, 0.0f);
    if (makes_entropy) powers.least_own = 0x1p-100f;
  }

  void run(int64_t chunk) {
    fill(totals.get(), kTerms * classes + 1, FoldedSum());
    fill(seen.get(), 2 * (classes + 1), uint8_t(0));
    valid = 0;
    labels.fault = Faults::kNone;
    for_cell_rows(chunk, [&](int64_t, auto count) {
      valid += labels.valid;
      add_rows<count()>();
    });
    fold();
    write(args.partial + chunk * args.partial_size());
    args.faults[chunk] = Faults();
    args.faults[chunk].label = labels.fault;
    args.unfit[chunk] = !fit;
  }

 private:
  // What is summed up for each class. Of hard labels true positives are their intersection too.
  enum Term { kHits, kCommon, kFalse, kMissed, kProduct, kTerms };
  // How many numbers are added to a lane in float32, each the sum of a few rows.
  static constexpr int kMostAdded = 64;

  const bool makes_entropy;             // of the cross-entropy
  std::unique_ptr<FoldedSum[]> totals;  // kTerms x classes, and that of the cross-entropy
  std::unique_ptr<uint8_t[]> seen;      // 2 x (C + 1): classes of hard and of smoothed labels
  float* lanes;                         // the same as totals, x kLanes
  int64_t valid = 0;
  int added = 0;

  JML_MATH static void add_to(float* place, Lanes value) { store(place, 0, load(place, 0) + value); }

  float* lanes_of(Term term, int64_t c) const { return lanes + (term * classes + c) * kLanes; }

  template <int kRows>
  void add_rows() {
    for (int group = 0; group < columns.groups; ++group) {
      labels.look_at_group(powers.rows.count, group);
      see_labels(group);
      for (int phase = 0; phase < columns.phases; ++phase) {
        if (!columns.used[phase * columns.groups + group]) continue;
        if (labels.smooths[phase * columns.groups + group]) {
          if (!add_vector<kRows, false, true>(phase, group)) add_directly<true>(phase, group);
        } else {
          if (!add_vector<kRows, false, false>(phase, group)) add_directly<false>(phase, group);
        }
        if (++added == kMostAdded) fold();
      }
    }
  }

  template <bool kSmooth>
  __attribute__((noinline)) void add_directly(int phase, int group) {
    add_vector<kMaxRows, true, kSmooth>(phase, group);
  }

  template <int kRows, bool kDirect, bool kSmooth>
  JML_MATH bool add_vector(int phase, int group) {
    const int count = kDirect ? powers.rows.count : kRows;
    IntLanes label[kRows];
    ClassSums<kRows> sums;
#pragma GCC unroll 8
    for (int j = 0; j < count; ++j) label[j] = labels.code_at(j, phase, group);
    powers.enter(phase, group);
    if (!powers.sum<kRows, kDirect, false, kDirect || kSmooth>(label, {}, sums)) return false;
    Lanes scale[kRows], p_label[kRows], p_others[kRows], at_label[kRows], elsewhere[kRows];
#pragma GCC unroll 8
    for (int j = 0; j < count; ++j) {
      const LaneMask counts = at_least_0(label[j]);
      scale[j] = select(counts, 1.0f / (sums.others[j] + sums.own[j]), Lanes{});
      p_others[j] = sums.others[j] * scale[j];
      p_label[j] = sums.own[j] * scale[j];
      if (kSmooth) {
        const LaneMask smoothed = counts & labels.smoothed_at(j, phase, group);
        at_label[j] = select(smoothed, Lanes{} + target.at_label, Lanes{} + 1.0f);
        elsewhere[j] = select(smoothed, Lanes{} + target.elsewhere, Lanes{});
      }
    }
    if (makes_entropy) add_entropy<kRows, kDirect, kSmooth>(label, sums, at_label, elsewhere);
    const uint8_t* present = labels.here.get();
    for (int64_t c = 0; c < classes; ++c) {
      const bool here = present[c];
      Lanes fp = {};
      if (kSmooth) {
        Lanes tp = {}, fn = {}, product = {};
        const auto add = [&](Lanes p, Lanes y) __attribute__((always_inline)) {
          const Lanes common = smaller(p, y);
          tp += common;
          fp += p - common;
          product += p * y;
          return y - common;
        };
        if (!here)
          powers.for_rows<kRows, kDirect>(c, sums, [&](int j, Lanes e) __attribute__((always_inline)) {
            fn += add(e * scale[j], elsewhere[j]);
          });
        else
          powers.for_rows<kRows, kDirect>(c, sums, [&](int j, Lanes e) __attribute__((always_inline)) {
            const LaneMask is_label = equal(label[j], int32_t(c));
            const Lanes missed = add(e * scale[j], select(is_label, at_label[j], elsewhere[j]));
            // Of a hard label y - p is the others' share, with its digits.
            const LaneMask is_hard = is_label & inverted(greater(elsewhere[j], Lanes{}));
            fn += select(is_hard, p_others[j], missed);
          });
        add_to(lanes_of(kCommon, c), tp);
        add_to(lanes_of(kMissed, c), fn);
        add_to(lanes_of(kProduct, c), product);
      } else if (!here) {
        powers.for_rows<kRows, kDirect>(c, sums, [&](int j, Lanes e) __attribute__((always_inline)) {
          fp += e * scale[j];
        });
      } else {
        Lanes hits = {}, fn = {};
        powers.for_rows<kRows, kDirect>(c, sums, [&](int j, Lanes e) __attribute__((always_inline)) {
          const LaneMask is_label = equal(label[j], int32_t(c));
          fp = add_where(inverted(is_label), fp, e * scale[j]);
          hits = add_where(is_label, hits, p_label[j]);
          fn = add_where(is_label, fn, p_others[j]);
        });
        add_to(lanes_of(kHits, c), hits);
        add_to(lanes_of(kMissed, c), fn);
      }
      add_to(lanes_of(kFalse, c), fp);
    }
    return true;
  }

  // Cross-entropies, as label_entropy has them: the label's own -log p, and those of the others,
  // which differ from it by what their logits do.
  template <int kRows, bool kDirect, bool kSmooth>
  JML_MATH void add_entropy(const IntLanes* label, const ClassSums<kRows>& sums,
                            const Lanes* at_label, const Lanes* elsewhere) {
    constexpr float kLog2 = 0.69314718f;
    const float count = float(classes);
    Lanes total = {};
#pragma GCC unroll 8
    for (int j = 0; j < (kDirect ? powers.rows.count : kRows); ++j) {
      const Lanes others = sums.others[j], own = sums.own[j];
      Lanes entropy;
      if (kDirect) {  // the largest exponential is 1, that of the label or one of the others
        const Lanes sum_minus_1 =
            select(greater(Lanes{} + 1.0f, own), others - 1.0f + own, others);
        entropy = (sums.shift[j] - sums.own_log[j]) * kLog2 + log1p_lanes(sum_minus_1);
      } else {
        entropy = log1p_lanes(others / own);
      }
      if (kSmooth) {
        const Lanes gap = (sums.log_sum[j] - sums.own_log[j] * count) * kLog2;
        entropy = at_label[j] * entropy + elsewhere[j] * ((count - 1) * entropy - gap);
      }
      total += select(at_least_0(label[j]), entropy, Lanes{});
    }
    add_to(lanes + kTerms * classes * kLanes, total);
  }

  void fold() {
    added = 0;
    for (int64_t i = 0; i <= kTerms * classes; ++i) {
      float* value = lanes + i * kLanes;
      for (int lane = 0; lane < kLanes; ++lane) {
        totals[i].lane[lane % kFoldLanes] += double(value[lane]);
        value[lane] = 0;
      }
    }
  }

  // The classes of a group, apart where they are smoothed.
  void see_labels(int group) {
    const bool all = labels.smooths_all;
    bool some = false;
    for (int phase = 0; phase < columns.phases && !all; ++phase)
      some |= labels.smooths[phase * columns.groups + group];
    if (!some) {
      for (int32_t c : labels.present) seen[all * (classes + 1) + c] = 1;
      return;
    }
    for (int j = 0; j < powers.rows.count; ++j)
      for (int phase = 0; phase < columns.phases; ++phase) {
        const IntLanes code = labels.code_at(j, phase, group);
        const Lanes smoothed = select(labels.smoothed_at(j, phase, group), Lanes{} + 1.0f, Lanes{});
        for (int lane = 0; lane < kLanes; ++lane)
          if (code[lane] >= 0) seen[(smoothed[lane] != 0) * (classes + 1) + code[lane]] = 1;
      }
  }

  // The partial sums of a chunk, see TargetSums.
  void write(double* partial) const {
    const Columns& of = args.label_columns;
    fill(partial, of.size(classes), 0.0);
    const auto total = [&](Term term, int64_t c) { return totals[term * classes + c].total(); };
    const uint8_t *hard = seen.get(), *smoothed = hard + classes + 1;
    bool any_smoothed = false;
    for (int64_t c = 0; c < classes; ++c) any_smoothed |= smoothed[c] != 0;
    for (int64_t c = 0; c < classes; ++c) {
      const auto put = [&](int column, double value) {
        if (of.requested(column)) partial[of.slot(column) * classes + c] = value;
      };
      put(kTruePositive, total(kHits, c) + total(kCommon, c));
      put(kFalsePositive, total(kFalse, c));
      put(kFalseNegative, total(kMissed, c));
      put(kIntersection, total(kHits, c) + total(kProduct, c));
      put(kTargetMax, largest_target(target, hard[c], smoothed[c], any_smoothed));
      put(kPresent, hard[c] || smoothed[c]);
      put(kCounted, valid > 0);
    }
    double* sums = partial + of.size(classes) - kTotals - kCrossEntropy;
    sums[kValid] = double(valid);
    sums[kCrossEntropy] = totals[kTerms * classes].total();
    sums[kCrossEntropyWeight] = of.requested(kCrossEntropyWeight) ? double(valid) : 0.0;
  }
};

}  // namespace jml::JML_ISA
