// Statistics against integer labels, from two parts of a tile:
//
//     rows of x, whose target is target_elsewhere  -> sums of each class, without the label's place
//     the label's own terms                        -> sums of the label's class
//
// With hard labels target_elsewhere = 0, so that tp = fn = 0 and fp = p in the rows: one addition
// for each element.
#pragma once

#include "target_sums.h"

namespace jml::JML_ISA {

// The label's terms. Its place in the rows held p = 0 against target_elsewhere, which counted as
// fn: that is taken back. `p_not_label`, or null, is 1 - p and the fn of a hard label.
template <typename T>
void label_term_rows(const T* __restrict p, const T* __restrict target_at_label,
                     const T* __restrict target_elsewhere, const T* __restrict p_not_label,
                     T* __restrict tp, T* __restrict fp, T* __restrict fn,
                     T* __restrict intersection, int n) {
  for (int i = 0; i < n; ++i) {
    const OverlapTerms<T> terms = jml::overlap_terms(p[i], target_at_label[i]);
    tp[i] = terms.true_positive;
    fp[i] = terms.false_positive;
    fn[i] = p_not_label && target_elsewhere[i] == 0 ? p_not_label[i]
                                                    : terms.false_negative - target_elsewhere[i];
    intersection[i] = p[i] * target_at_label[i];
  }
}

// The largest target of a class, by whether it is the label of a pixel that is not smoothed, of one
// that is, and whether any class is.
template <typename T>
T largest_target(const LabelTarget<T>& target, bool is_hard, bool is_smoothed, bool any_smoothed) {
  if (is_hard) return 1;
  return is_smoothed ? target.at_label : any_smoothed ? target.elsewhere : T(0);
}

template <typename T>
class LabelSums : public TargetSums<T> {
  using Base = TargetSums<T>;
  using Base::args, Base::classes, Base::sums_of, Base::raise;

 public:
  using Base::requested;

  explicit LabelSums(const Arguments& args)
      : Base(args, args.label_columns), seen(new uint8_t[2 * (args.classes + 1)]) {}

  void enter(double* partial) {
    Base::enter(partial);
    fill(seen.get(), 2 * (classes + 1), uint8_t(0));
  }

  void leave() {
    if (requested(kTargetMax)) raise_target_maxima();
    Base::leave([](int extremum) {
      return extremum != kPresent && extremum != kCounted && extremum != kTargetMax;
    });
  }

  void add_totals(const Tile<T>& tile) {
    Base::add_totals(tile, tile.entropy.of_labels, tile.entropy.label_weight);
  }

  // Whether add_products is called, with x scaled to probabilities. The intersection with hard
  // labels is made of the label's own terms alone.
  bool needs_products(const Tile<T>& tile) const {
    return requested(kPredictionSquared) || requested(kTargetSquared) || requested(kPredictionMax) ||
           requested(kJointMax) || (requested(kIntersection) && tile.label.any_smoothed);
  }

  FoldedSum& false_positive(int64_t c) { return sums_of(kFalsePositive)[c]; }

  void add_overlap(const Tile<T>& tile, int64_t c) {
    const LabelState<T>& label = tile.label;
    FoldedSum& fp = false_positive(c);
    if (label.any_smoothed)
      overlap_row(tile.x_row(c), tile.softmax.scale, label.target_elsewhere, label.has_smoothed,
                  tile.padded, sums_of(kTruePositive)[c], fp, sums_of(kFalseNegative)[c]);
    else
      dot_row(tile.x_row(c), tile.softmax.scale, tile.padded, fp);
  }

  void add_products(const Tile<T>& tile, int64_t c) {
    Base::add_products(tile.x_row(c), tile.label.target_elsewhere, c, tile.padded);
  }

  // Adds the label's own terms. What its place in the rows counted is taken back.
  void add_labels(const Tile<T>& tile) {
    const LabelState<T>& label = tile.label;
    const int n = tile.padded;
    const bool none = args.activation == Activation::none;
    const bool hard = !none && !label.any_smoothed;
    if (hard) {  // tp = intersection = p <= 1, fn = 1 - p
      this->add_at_labels(label, n, {kTruePositive, kFalseNegative},
                          {label.p_label, label.p_not_label});
    } else {
      label_term_rows(label.p_label, label.target_at_label, label.target_elsewhere,
                      none ? nullptr : label.p_not_label, label.tp, label.fp, label.fn,
                      label.intersection, n);
      this->add_at_labels(label, n, {kTruePositive, kFalsePositive, kFalseNegative},
                          {label.tp, label.fp, label.fn});
    }
    if (requested(kIntersection))
      this->add_at_labels(label, n, {kIntersection}, {hard ? label.p_label : label.intersection});
    if (requested(kTargetMax)) see_labels(tile);

    const auto at_labels = [&](auto visit) __attribute__((always_inline)) {
      for (int i = 0; i < tile.count; ++i)
        if (label.row[i] < classes)
          visit(label.row[i], label.p_label[i], label.target_at_label[i],
                label.target_elsewhere[i]);
    };
    if (requested(kPredictionSquared) || requested(kTargetSquared))
      at_labels([&](int32_t c, T p, T at_label, T elsewhere) {
        sums_of(kPredictionSquared)[c].lane[0] += double(p * p);
        sums_of(kTargetSquared)[c].lane[0] += double(at_label * at_label - elsewhere * elsewhere);
      });
    if (requested(kPredictionMax) || requested(kJointMax))
      at_labels([&](int32_t c, T p, T at_label, T) {
        raise(kPredictionMax, c, p);
        raise(kJointMax, c, p + at_label);
      });
    // Smoothing by 1 makes all classes equal, and the first the argmax.
    if (requested(kPresent))
      at_labels([&](int32_t c, T, T at_label, T elsewhere) {
        if (args.independent() ? at_label > T(0.5) : true)
          raise(kPresent, args.independent() || at_label > elsewhere ? c : 0, T(1));
      });
  }

 private:
  // 2 x (C + 1): whether a class was the label of a pixel that is not smoothed, and of one that is.
  std::unique_ptr<uint8_t[]> seen;

  void see_labels(const Tile<T>& tile) {
    const LabelState<T>& label = tile.label;
    const int32_t *row = label.row, *smoothed = label.on_boundary;
    uint8_t* const hard = seen.get();
    const int64_t rows = classes + 1;
    if (args.binary()) {  // where the row of a pixel without a label is also that of label 0
      for (int i = 0; i < tile.count; ++i)
        if (tile.valid[i] != 0) hard[(label.target_elsewhere[i] != 0) * rows + row[i]] = 1;
    } else if (!label.any_smoothed || args.boundary_size == 0) {
      uint8_t* const all = hard + (label.any_smoothed ? rows : 0);
      for (int64_t c = 0; c < rows; ++c) all[c] |= label.class_present[c];
    } else {
      for (int block = 0; block < tile.padded / kBlock; ++block) {
        const int first = block * kBlock;
        const bool alike = label.one_label[block] && !label.has_smoothed[block];
        for (int i = first; i < first + (alike ? 1 : kBlock); ++i)
          hard[smoothed[i] * rows + row[i]] = 1;
      }
    }
  }

  // The target takes few values: at labels 1, or at_label where smoothed; elsewhere 0, or the
  // elsewhere of smoothed labels.
  void raise_target_maxima() {
    const LabelTarget<T> target =
        label_target(T(args.label_smoothing), T(args.label_count()));
    const uint8_t* smoothed = seen.get() + classes + 1;
    bool any_smoothed = args.binary() && smoothed[classes];
    for (int64_t c = 0; c < classes; ++c) any_smoothed |= smoothed[c] != 0;
    for (int64_t c = 0; c < classes; ++c)
      raise(kTargetMax, c, largest_target(target, seen[c], smoothed[c], any_smoothed));
  }
};

}  // namespace jml::JML_ISA
