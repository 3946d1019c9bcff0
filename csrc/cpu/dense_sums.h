// Statistics against a dense target: rows of x against rows of y. Beside labels both are 0 in the
// label's place, whose terms come as one number for each pixel.
#pragma once

#include "target_sums.h"

namespace jml::JML_ISA {

// The terms of p against y, one number for each pixel.
template <typename T>
void overlap_term_rows(const T* __restrict p, const T* __restrict y, T* __restrict tp,
                       T* __restrict fp, T* __restrict fn, T* __restrict intersection, int n) {
  for (int i = 0; i < n; ++i) {
    const OverlapTerms<T> terms = jml::overlap_terms(p[i], y[i]);
    tp[i] = terms.true_positive;
    fp[i] = terms.false_positive;
    fn[i] = terms.false_negative;
    intersection[i] = p[i] * y[i];
  }
}

template <typename T>
class DenseSums : public TargetSums<T> {
  using Base = TargetSums<T>;
  using Base::args, Base::classes, Base::sums_of, Base::raise, Base::maxima_of;

 public:
  using Base::requested;

  explicit DenseSums(const Arguments& args) : Base(args, args.dense_columns) {}

  bool teacher_entropy_requested() const { return args.teacher && requested(kTargetEntropy); }

  void add_totals(const Tile<T>& tile) {
    Base::add_totals(tile, tile.entropy.of_dense, tile.valid);
    if (teacher_entropy_requested())
      dot_row(tile.entropy.of_teacher, tile.valid, tile.padded, this->total_of(kTargetEntropy));
  }

  void leave() {
    Base::leave([](int extremum) { return extremum != kPresent && extremum != kCounted; });
  }

  // Whether add_products is called, with x scaled to probabilities.
  bool needs_products() const { return !this->only_overlap(); }

  // `p_sum`, or null, gains the probabilities of the class.
  void add_overlap(Tile<T>& tile, int64_t c, FoldedSum* p_sum) {
    overlap_row(tile.x_row(c), tile.softmax.scale, tile.y_row(c), tile.padded,
                sums_of(kTruePositive)[c], sums_of(kFalsePositive)[c], sums_of(kFalseNegative)[c],
                maxima_of(kTargetMax)[c], p_sum, tile.dense.prefetch, tile.dense.largest);
  }

  void add_products(const Tile<T>& tile, int64_t c) {
    Base::add_products(tile.x_row(c), tile.y_row(c), c, tile.padded);
  }

  // Adds what is no row: the label's place and the argmax.
  void add_pixels(const Tile<T>& tile) {
    if (args.has_labels()) add_labels(tile);
    if (requested(kPresent)) add_present(tile);
  }

 private:
  void add_labels(const Tile<T>& tile) {
    const LabelState<T>& label = tile.label;
    const int n = tile.padded;
    overlap_term_rows(label.p_label, label.dense_at_label, label.tp, label.fp, label.fn,
                      label.intersection, n);
    this->add_at_labels(label, n, {kTruePositive, kFalsePositive, kFalseNegative},
                        {label.tp, label.fp, label.fn});
    if (requested(kIntersection))
      this->add_at_labels(label, n, {kIntersection}, {label.intersection});
    if (requested(kTargetMax)) this->raise_at_labels(label, n, kTargetMax, label.dense_at_label);
    if (requested(kPredictionMax)) this->raise_at_labels(label, n, kPredictionMax, label.p_label);
    for (int i = 0; i < tile.count && !this->only_overlap(); ++i) {
      const int32_t c = label.row[i];
      const T p = label.p_label[i], y = label.dense_at_label[i];
      if (c >= classes) continue;
      if (requested(kPredictionSquared)) sums_of(kPredictionSquared)[c].add_pixel(i, p * p);
      if (requested(kTargetSquared)) sums_of(kTargetSquared)[c].add_pixel(i, y * y);
      if (requested(kJointMax)) maxima_of(kJointMax)[c].add_pixel(i, p + y);
    }
  }

  void add_present(const Tile<T>& tile) {
    const LabelState<T>& label = tile.label;
    const bool independent = args.independent();
    for (int i = 0; i < tile.count; ++i) {
      if (tile.valid[i] == 0) continue;
      const auto target = [&](int64_t c) {
        const bool is_label = args.has_labels() && label.row[i] == c;
        return is_label ? label.dense_at_label[i] : tile.y_row(c)[i];
      };
      int64_t best = 0;
      for (int64_t c = 0; c < classes; ++c) {
        if (independent && target(c) > T(0.5)) raise(kPresent, c, T(1));
        if (target(c) > target(best)) best = c;
      }
      const bool is_best_ignored = tile.has_ignored && is_ignored_target(target(best));
      if (!independent && !is_best_ignored) raise(kPresent, best, T(1));
    }
  }
};

}  // namespace jml::JML_ISA
