// Statistics against labels.
//
//     rows of x against `off`   -> sums per class, without the label's own place
//     the label's terms         -> sums of the class of the label
//
// With hard labels off = 0, so that tp = fn = 0 and fp = x in the rows: one addition for each
// element.
#pragma once

#include "target_sums.h"

namespace jml::JML_ISA {

template <typename T>
class LabelSums : public TargetSums<T> {
  using Base = TargetSums<T>;
  using Base::args, Base::classes, Base::sums_of, Base::raise;

 public:
  using Base::wants;

  explicit LabelSums(const Arguments& args)
      : Base(args, args.label_columns), seen(new uint8_t[2 * (args.classes + 1)]) {}

  void enter(double* partial) {
    Base::enter(partial);
    fill(seen.get(), 2 * (classes + 1), uint8_t(0));
  }

  void leave() {
    if (wants(kTargetMax)) add_label_maxima();
    Base::leave([](int extremum) { return extremum != kPresent && extremum != kTargetMax; });
  }

  // Whether `add_row` is called with x scaled.
  bool needs_probabilities(const Tile<T>& tile) const {
    const bool hard_intersection = !tile.smooth;  // is made of the labels alone
    return wants(kPredictionSquared) || wants(kTargetSquared) || wants(kPredictionMax) ||
           wants(kJointMax) || (wants(kIntersection) && !hard_intersection);
  }

  FoldedSum& false_positive(int64_t c) { return sums_of(kFalsePositive)[c]; }

  void add_overlap(const Tile<T>& tile, int64_t c) {
    const T* x = tile.x + c * tile.stride;
    FoldedSum& fp = false_positive(c);
    if (tile.smooth)
      overlap_row(x, tile.scale, tile.off, tile.mixed, tile.padded, sums_of(kTruePositive)[c], fp,
                  sums_of(kFalseNegative)[c]);
    else
      dot_row(x, tile.scale, tile.padded, fp);
  }

  void add_products(const Tile<T>& tile, int64_t c) {
    Base::add_products(tile.x + c * tile.stride, tile.off, c, tile.padded);
  }

  // The label's own terms. The rows above held x = 0 against `off` in its place: where that
  // counted, it is taken back.
  void add_labels(const Tile<T>& tile) {
    const bool softmax = args.activation == Activation::softmax;
    const bool hard = softmax && !tile.smooth;
    if (hard) {  // tp = xy = x <= 1, fn = 1 - x
      this->add_at_labels(tile, {kTruePositive, kFalseNegative}, {tile.label_x, tile.label_miss});
    } else {
      label_terms(tile.label_x, tile.on, tile.off, softmax ? tile.label_miss : nullptr,
                  tile.label_tp, tile.label_fp, tile.label_fn, tile.label_xy, tile.padded);
      this->add_at_labels(tile, {kTruePositive, kFalsePositive, kFalseNegative},
                          {tile.label_tp, tile.label_fp, tile.label_fn});
    }
    if (wants(kIntersection))
      this->add_at_labels(tile, {kIntersection}, {hard ? tile.label_x : tile.label_xy});
    if (wants(kTargetMax)) see_labels(tile);

    const auto at_labels = [&](auto visit) __attribute__((always_inline)) {
      for (int p = 0; p < tile.count; ++p)
        if (tile.row[p] < classes) visit(tile.row[p], tile.label_x[p], tile.on[p], tile.off[p]);
    };
    if (wants(kPredictionSquared) || wants(kTargetSquared))
      at_labels([&](int32_t c, T x, T on, T off) {
        sums_of(kPredictionSquared)[c].lane[0] += double(x * x);
        sums_of(kTargetSquared)[c].lane[0] += double(on * on - off * off);
      });
    if (wants(kPredictionMax) || wants(kJointMax))
      at_labels([&](int32_t c, T x, T on, T) {
        raise(kPredictionMax, c, x);
        raise(kJointMax, c, x + on);
      });
    // Smoothing by 1 makes all classes equal, and the first the argmax.
    if (wants(kPresent))
      at_labels([&](int32_t c, T, T on, T off) {
        if (args.independent() ? on > T(0.5) : true)
          raise(kPresent, args.independent() || on > off ? c : 0, T(1));
      });
  }

 private:
  // Whether a class was the label of some pixel, one that is smoothed or not: 2 x (classes + 1).
  std::unique_ptr<uint8_t[]> seen;

  void see_labels(const Tile<T>& tile) {
    const int32_t *row = tile.row, *smoothed = tile.boundary;
    uint8_t* const hard = seen.get();
    const int64_t ways = classes + 1;
    const int count = tile.count;
    if (args.binary()) {  // where the row of a pixel without a label is also that of label 0
      for (int p = 0; p < count; ++p)
        if (tile.valid[p] != 0) hard[(tile.off[p] != 0) * ways + row[p]] = 1;
    } else if (!tile.smooth || args.boundary_size == 0) {
      uint8_t* const all = hard + (tile.smooth ? ways : 0);
      for (int64_t c = 0; c < ways; ++c) all[c] |= tile.here[c];
    } else {
      for (int block = 0; block < tile.padded / kBlock; ++block) {
        const int first = block * kBlock;
        const bool alike = tile.one_label[block] && !tile.mixed[block];
        for (int p = first; p < first + (alike ? 1 : kBlock); ++p)
          hard[smoothed[p] * ways + row[p]] = 1;
      }
    }
  }

  // The target takes few values: at labels 1, or `on` where smoothed; elsewhere 0, or `off`.
  void add_label_maxima() {
    const LabelTarget<T> target =
        label_target(T(args.label_smoothing), T(args.label_count()));
    const uint8_t* smoothed = seen.get() + classes + 1;
    bool any_smoothed = args.binary() && smoothed[classes];
    for (int64_t c = 0; c < classes; ++c) any_smoothed |= smoothed[c] != 0;
    for (int64_t c = 0; c < classes; ++c)
      raise(kTargetMax, c,
            seen[c] ? T(1) : smoothed[c] ? target.at_label : any_smoothed ? target.elsewhere : T(0));
  }
};

}  // namespace jml::JML_ISA
