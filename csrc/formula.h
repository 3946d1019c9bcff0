// From statistics to the loss and its gradient, as jml_kernels/formulas.py has it: a few operations
// on N x C numbers, in double precision. One target at a time, for host and device.
//
//     statistics -> (TP, FP, FN) of an overlap -> loss per class and its derivatives
//                -> active classes             -> aggregations, and their gradients back
#pragma once

#include <cmath>
#include <cstdint>

#include "columns.h"
#include "pixel_math.h"

namespace jml {

enum class Active { all, present, label, prob, both };

// One number for each class, of a tensor of float32 or float64; 1 where there is none.
struct ClassWeights {
  const void* data = nullptr;
  bool is_double = false;
  int64_t stride = 0;

  JML_MATH double at(int64_t c) const {
    if (!data) return 1;
    return is_double ? static_cast<const double*>(data)[c * stride]
                     : double(static_cast<const float*>(data)[c * stride]);
  }
};

constexpr int kCounts = 3;  // TP, FP, FN

// What all targets of a call share.
struct Formula {
  // The counts TP, FP and FN of the overlap are this matrix times the sums (jml_kernels/overlaps.py).
  double overlap[kCounts][kSums] = {};
  double alpha = 1, beta = 1, gamma = 1, smooth = 0;
  bool log_loss = false;
  double dataset = 1, image = 0, per_class = 0;  // weights of the aggregations
  double threshold = 0;
  ClassWeights class_weights;
};

// What is asked of one target: ce_weight CE + overlap_weight loss.
struct Term {
  double ce_weight = 0, overlap_weight = 0;
  Active active = Active::all;
  bool divergence = false;  // CE less the target's own entropy
};

struct Counts {
  double tp = 0, fp = 0, fn = 0;

  JML_MATH void add(const Counts& other) {
    tp += other.tp;
    fp += other.fp;
    fn += other.fn;
  }
};

struct ClassLoss {
  double loss;
  Counts gradient;
};

// loss = errors / denominator with errors = alpha FP + beta FN and denominator = TP + errors + s,
// which is 1 - index; or -log(index); then its power. 0/0 counts as 0.
JML_MATH ClassLoss class_loss(const Formula& formula, const Counts& counts) {
  const double errors = formula.alpha * counts.fp + formula.beta * counts.fn;
  const double denominator = counts.tp + errors + formula.smooth;
  const double hits = counts.tp + formula.smooth;
  if (denominator == 0) return {0, {}};
  double loss, of_hits, of_errors;  // derivatives by TP, and by errors
  if (formula.log_loss) {
    loss = -log(hits / denominator);
    of_hits = 1 / denominator - 1 / hits;
    of_errors = 1 / denominator;
  } else {
    loss = errors / denominator;
    of_hits = -errors / (denominator * denominator);
    of_errors = hits / (denominator * denominator);
  }
  if ((formula.alpha == formula.beta || formula.gamma != 1) && loss < 0) return {0, {}};
  double slope = 1;
  if (formula.gamma != 1) {
    // The derivative of 0^gamma may be infinite: a perfect class gets 0 and gradient 0.
    if (loss == 0) return {0, {}};
    const double power = exp(formula.gamma * log(loss));
    slope = formula.gamma * power / loss;
    loss = power;
  }
  return {loss, {slope * of_hits, slope * of_errors * formula.alpha,
                 slope * of_errors * formula.beta}};
}

// The statistics of one target, (columns, images, classes) and (totals, images), and the gradients
// that are made of them, of the same shapes.
struct TargetStatistics {
  int64_t images, classes;
  const double *sums, *extrema, *totals;
  double *grad_sums, *grad_totals;

  JML_MATH int64_t at(int column, int64_t n, int64_t c) const { return (column * images + n) * classes + c; }

  // The matrix times the sums. XY and TP are added first: TP - XY is exactly 0 wherever x or y is
  // hard, and stays so. A column with the factor 0 is not asked for, and not looked at.
  JML_MATH Counts counts(const Formula& formula, int64_t n, int64_t c) const {
    constexpr int kOrder[kSums] = {kIntersection,  kTruePositive,      kFalsePositive,
                                   kFalseNegative, kPredictionSquared, kTargetSquared};
    const auto count = [&](const double (&row)[kSums]) {
      double sum = 0;
      for (int column : kOrder)
        if (row[column] != 0) sum += row[column] * sums[at(column, n, c)];
      return sum;
    };
    return {count(formula.overlap[0]), count(formula.overlap[1]), count(formula.overlap[2])};
  }

  // The transposed matrix times the gradients of the counts.
  JML_MATH void add_gradient(const Formula& formula, int64_t n, int64_t c, const Counts& g,
                             double factor) {
    for (int column = 0; column < kSums; ++column) {
      const double of_tp = formula.overlap[0][column], of_fp = formula.overlap[1][column],
                   of_fn = formula.overlap[2][column];
      if (of_tp == 0 && of_fp == 0 && of_fn == 0) continue;
      double sum = 0;
      if (of_tp != 0) sum += of_tp * g.tp;
      if (of_fp != 0) sum += of_fp * g.fp;
      if (of_fn != 0) sum += of_fn * g.fn;
      grad_sums[at(column, n, c)] += factor * sum;
    }
  }

  JML_MATH bool active(Active mode, double threshold, int64_t n, int64_t c) const {
    if (mode == Active::all) return true;
    if (mode == Active::present) return extrema[at(kPresent - kSums, n, c)] > 0;
    const int column = mode == Active::label  ? kTargetMax
                       : mode == Active::prob ? kPredictionMax
                                              : kJointMax;
    // Not `>`: a class whose maximum is NaN is active, so that the loss is NaN too.
    return !(extrema[at(column - kSums, n, c)] <= threshold);
  }
};

// Who computes: a class, or an image where there are no classes, belongs to the thread of the rank
// that is its remainder; `sum` adds up over threads, in one order.
struct Alone {
  static constexpr int64_t rank = 0, size = 1;
  static double sum(double value) { return value; }
};

template <typename Team>
JML_MATH double add_cross_entropy(Team& team, const Term& term, TargetStatistics& target) {
  const int64_t n = target.images;
  double entropy = 0, weight = 0;
  for (int64_t i = team.rank; i < n; i += team.size) {
    entropy += target.totals[i];
    if (term.divergence) entropy -= target.totals[(kTargetEntropy - kCrossEntropy) * n + i];
    weight += target.totals[(kCrossEntropyWeight - kCrossEntropy) * n + i];
  }
  entropy = team.sum(entropy);
  weight = team.sum(weight);
  if (weight == 0) return 0;
  for (int64_t i = team.rank; i < n; i += team.size)
    target.grad_totals[i] += term.ce_weight / weight;
  return term.ce_weight * entropy / weight;
}

// Adds `term` of the target to its gradients; returns its value, to every thread.
template <typename Team>
JML_MATH double add_term(Team& team, const Formula& formula, const Term& term,
                         TargetStatistics& target) {
  const int64_t n = target.images, c = target.classes;
  const double entropy = term.ce_weight != 0 ? add_cross_entropy(team, term, target) : 0;
  if (term.overlap_weight == 0) return entropy;
  const auto active = [&](int64_t i, int64_t k) {
    return target.active(term.active, formula.threshold, i, k);
  };
  const auto images_of = [&](int64_t k) {
    int64_t count = 0;
    for (int64_t i = 0; i < n; ++i) count += active(i, k);
    return count;
  };
  const auto classes_of = [&](int64_t i) {
    double count = 0;
    for (int64_t k = team.rank; k < c; k += team.size) count += active(i, k);
    return team.sum(count);
  };
  double value = 0;
  const auto add = [&](int64_t i, int64_t k, double share) {
    const ClassLoss found = class_loss(formula, target.counts(formula, i, k));
    value += share * found.loss;
    target.add_gradient(formula, i, k, found.gradient, share);
  };

  // Means over active classes, of the batch or of the images that have them.
  double any_class = 0;
  for (int64_t k = team.rank; k < c; k += team.size) any_class += images_of(k) > 0;
  any_class = team.sum(any_class);
  for (int64_t k = team.rank; k < c; k += team.size) {
    const double factor = term.overlap_weight * formula.class_weights.at(k);
    const double images = double(images_of(k));
    if (images == 0) continue;
    if (formula.dataset != 0) {
      Counts counts;
      for (int64_t i = 0; i < n; ++i) counts.add(target.counts(formula, i, k));
      const ClassLoss found = class_loss(formula, counts);
      const double share = formula.dataset * factor / any_class;
      value += share * found.loss;
      for (int64_t i = 0; i < n; ++i)
        target.add_gradient(formula, i, k, found.gradient, share);
    }
    for (int64_t i = 0; i < n && formula.per_class != 0; ++i)
      if (active(i, k)) add(i, k, formula.per_class * factor / (images * any_class));
  }
  // Mean over images, of means over the classes that are active there.
  if (formula.image != 0) {
    double any_image = 0;
    for (int64_t i = 0; i < n; ++i) any_image += classes_of(i) > 0;
    for (int64_t i = 0; i < n; ++i) {
      const double share = formula.image * term.overlap_weight / (classes_of(i) * any_image);
      for (int64_t k = team.rank; k < c; k += team.size)
        if (active(i, k)) add(i, k, share * formula.class_weights.at(k));
    }
  }
  return entropy + team.sum(value);
}

}  // namespace jml
