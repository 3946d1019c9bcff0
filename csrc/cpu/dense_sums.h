// Statistics against a dense target: rows of x against rows of y. Beside labels both are 0 in the
// label's place, whose terms come one number a pixel.
#pragma once

#include "target_sums.h"

namespace jml::JML_ISA {

template <typename T>
class DenseSums : public TargetSums<T> {
  using Base = TargetSums<T>;
  using Base::args, Base::classes, Base::sums_of, Base::raise, Base::maxima_of;

 public:
  using Base::wants;

  explicit DenseSums(const Arguments& args) : Base(args, args.dense_columns) {}

  bool wants_teacher_entropy() const { return args.teacher && wants(kTargetEntropy); }

  void add_totals(const Tile<T>& tile, const T* entropy, const T* weight) {
    Base::add_totals(tile, entropy, weight);
    if (wants_teacher_entropy())
      dot_row(tile.teacher_entropy, tile.valid, tile.padded,
              this->totals[kTargetEntropy - kCrossEntropy]);
  }

  void leave() {
    Base::leave([](int extremum) { return extremum != kPresent; });
  }

  bool needs_probabilities() const { return !this->only_overlap(); }

  // `probabilities`, or null, gains those of the class.
  void add_overlap(Tile<T>& tile, int64_t c, FoldedSum* probabilities) {
    overlap_row(tile.x + c * tile.stride, tile.scale, tile.y + c * tile.stride, tile.padded,
                sums_of(kTruePositive)[c], sums_of(kFalsePositive)[c], sums_of(kFalseNegative)[c],
                maxima_of(kTargetMax)[c], probabilities, tile.dense_feed);
  }

  void add_products(const Tile<T>& tile, int64_t c) {
    Base::add_products(tile.x + c * tile.stride, tile.y + c * tile.stride, c, tile.padded);
  }

  // What is no row: the label's place and the argmax.
  void add_pixels(const Tile<T>& tile) {
    if (args.has_labels()) add_labels(tile);
    if (wants(kPresent)) add_present(tile);
  }

 private:
  void add_labels(const Tile<T>& tile) {
    overlap_term_rows(tile.label_x, tile.label_y, tile.label_tp, tile.label_fp, tile.label_fn,
                  tile.label_xy, tile.padded);
    this->add_at_labels(tile, {kTruePositive, kFalsePositive, kFalseNegative},
                        {tile.label_tp, tile.label_fp, tile.label_fn});
    if (wants(kIntersection)) this->add_at_labels(tile, {kIntersection}, {tile.label_xy});
    if (wants(kTargetMax)) this->raise_at_labels(tile, kTargetMax, tile.label_y);
    if (wants(kPredictionMax)) this->raise_at_labels(tile, kPredictionMax, tile.label_x);
    for (int p = 0; p < tile.count && !this->only_overlap(); ++p) {
      const int32_t c = tile.row[p];
      const T x = tile.label_x[p], y = tile.label_y[p];
      if (c >= classes) continue;
      if (wants(kPredictionSquared)) sums_of(kPredictionSquared)[c].add_pixel(p, x * x);
      if (wants(kTargetSquared)) sums_of(kTargetSquared)[c].add_pixel(p, y * y);
      if (wants(kJointMax)) maxima_of(kJointMax)[c].add_pixel(p, x + y);
    }
  }

  void add_present(const Tile<T>& tile) {
    const bool independent = args.independent();
    for (int p = 0; p < tile.count; ++p) {
      if (tile.valid[p] == 0) continue;
      const auto target = [&](int64_t c) {
        const bool own = args.has_labels() && tile.row[p] == c;
        return own ? tile.label_y[p] : tile.y[c * tile.stride + p];
      };
      int64_t best = 0;
      for (int64_t c = 0; c < classes; ++c) {
        if (independent && target(c) > T(0.5)) raise(kPresent, c, T(1));
        if (target(c) > target(best)) best = c;
      }
      if (!independent) raise(kPresent, best, T(1));
    }
  }
};

}  // namespace jml::JML_ISA
