// The statistics of a chunk against one target, as they grow from tile to tile: what labels and a
// dense target have in common.
#pragma once

#include "labels.h"
#include "sums.h"
#include "tile.h"
#include "values.h"

namespace jml::JML_ISA {

template <typename T>
class TargetSums {
 public:
  TargetSums(const Arguments& args, const Columns& columns)
      : args(args),
        classes(args.classes),
        columns(columns),
        sums(new FoldedSum[kSums * (args.classes + 1)]),
        maxima(new FoldedMax<T>[kExtrema * (args.classes + 1)]) {}

  bool requested(int column) const { return columns.requested(column); }
  bool classes_requested() const { return columns.before(kClassColumns) > 0; }

  void enter(double* partial) {
    out = partial;
    fill(out, columns.size(classes), 0.0);
    for (int sum = 0; sum < kSums; ++sum)
      if (makes(sum)) fill(sums_of(sum), classes + 1, FoldedSum());
    fill(maxima.get(), kExtrema * (classes + 1), FoldedMax<T>());
    fill(totals, kTotals, FoldedSum());
  }

  // Adds the number of pixels, the cross-entropy of each, and its weight: what adds up to the
  // number that the cross-entropy is divided by.
  void add_totals(const Tile<T>& tile, const T* cross_entropy, const T* weight) {
    const int n = tile.padded;
    const int64_t pixels = count_valid(tile.valid, n);
    total_of(kValid).lane[0] += double(pixels);
    if (requested(kCounted) && pixels > 0) add_counted(tile);
    if (requested(kCrossEntropy)) dot_row(cross_entropy, tile.valid, n, total_of(kCrossEntropy));
    if (!requested(kCrossEntropyWeight)) return;
    FoldedSum& weights = total_of(kCrossEntropyWeight);
    if (args.independent())
      weights.lane[0] += double(tile.has_ignored ? tile.elements : pixels * classes);
    else if (weight == tile.valid)
      weights.lane[0] += double(pixels);
    else
      dot_row(weight, tile.valid, n, weights);
  }

 protected:
  const Arguments& args;
  const int64_t classes;

  // The three of the overlap are always made, others where they are asked for.
  bool makes(int sum) const { return sum <= kFalseNegative || requested(sum); }
  // One for each class, and a last one for pixels whose label has no row.
  FoldedSum* sums_of(int sum) const { return sums.get() + sum * (classes + 1); }
  FoldedMax<T>* maxima_of(int extremum) const {
    return maxima.get() + (extremum - kSums) * (classes + 1);
  }
  FoldedSum& total_of(int total) { return totals[total - kCrossEntropy]; }

  bool only_overlap() const {
    return !requested(kIntersection) && !requested(kPredictionSquared) && !requested(kTargetSquared) &&
           !requested(kPredictionMax) && !requested(kJointMax);
  }

  void raise(int extremum, int64_t c, T value) {
    double& best = column(extremum)[c];
    if (!(double(value) <= best) && best == best) best = double(value);
  }

  // The columns beside the overlap of class c, from its probabilities and targets.
  void add_products(const T* p, const T* y, int64_t c, int n) {
    if (requested(kIntersection)) dot_row(p, y, n, sums_of(kIntersection)[c]);
    if (requested(kPredictionSquared)) dot_row(p, p, n, sums_of(kPredictionSquared)[c]);
    if (requested(kTargetSquared)) dot_row(y, y, n, sums_of(kTargetSquared)[c]);
    if (requested(kPredictionMax)) max_row<T>(p, nullptr, n, maxima_of(kPredictionMax)[c]);
    if (requested(kJointMax)) max_row<T>(p, y, n, maxima_of(kJointMax)[c]);
  }

  // Adds numbers of each pixel to sums of its label's class.
  template <int kCount>
  void add_at_labels(const LabelState<T>& label, int n, const int (&sum)[kCount],
                     const T* const (&value)[kCount]) {
    FoldedSum* to[kCount];
    for (int k = 0; k < kCount; ++k) to[k] = sums_of(sum[k]);
    // A region goes on from block to block: its sums stay in registers.
    int32_t region = int32_t(classes);
    FoldLanes held[kCount] = {};
    for_labels(
        label.row, label.one_label, n,
        [&](int32_t c, int first) __attribute__((always_inline)) {
          for (int k = 0; k < kCount; ++k) {
            if (c != region) {
              to[k][region].add(held[k]);
              held[k] = FoldLanes{};
            }
            held[k] += fold_block(value[k] + first);
          }
          region = c;
        },
        [&](int32_t c, int i) __attribute__((always_inline)) {
          for (int k = 0; k < kCount; ++k) to[k][c].add_pixel(i, value[k][i]);
        });
    for (int k = 0; k < kCount; ++k) to[k][region].add(held[k]);
  }

  // And to the maxima.
  void raise_at_labels(const LabelState<T>& label, int n, int extremum, const T* value) {
    FoldedMax<T>* const to = maxima_of(extremum);
    for_labels(
        label.row, label.one_label, n,
        [&](int32_t c, int first)
            __attribute__((always_inline)) { to[c].add_block(value + first); },
        [&](int32_t c, int i) __attribute__((always_inline)) { to[c].add_pixel(i, value[i]); });
  }

  // `of_rows`: whether NaN of a class is to show in an extremum.
  template <typename OfRows>
  void leave(OfRows of_rows) {
    for (int64_t c = 0; c < classes; ++c) {
      double all = 0;
      for (int sum = 0; sum < kSums; ++sum) {
        if (!makes(sum)) continue;
        const double total = sums_of(sum)[c].total();
        column(sum)[c] += total;
        all += total;
      }
      for (int extremum = kSums; extremum < kClassColumns; ++extremum) {
        const T most = maxima_of(extremum)[c].largest();
        raise(extremum, c, of_rows(extremum) && all != all ? T(all) : most);
      }
    }
    for (int i = 0; i < kTotals; ++i)
      out[columns.size(classes) - kTotals + i] += totals[i].total();
  }

 private:
  const Columns columns;
  double* out = nullptr;  // the chunk's partial sums
  FoldedSum totals[kTotals];
  std::unique_ptr<FoldedSum[]> sums;       // kSums x (C + 1)
  std::unique_ptr<FoldedMax<T>[]> maxima;  // kExtrema x (C + 1)

  // The classes that have an element which counts: where a pixel does, these are all of them but
  // those whose elements are ignored one by one.
  void add_counted(const Tile<T>& tile) {
    for (int64_t c = 0; c < classes; ++c)
      if (!tile.has_ignored || any_counted(tile.y_row(c), tile.valid, tile.padded))
        raise(kCounted, c, T(1));
  }

  double* column(int index) const { return out + columns.slot(index) * classes; }
};

}  // namespace jml::JML_ISA
