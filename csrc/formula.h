// From statistics to the loss and its gradient, as jml_kernels/formulas.py has it: a few operations
// on N x C numbers, in double precision. One target at a time.
//
//     statistics -> (TP, FP, FN) of an overlap -> loss per class and its derivatives
//                -> active classes             -> aggregations, and their gradients back
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "columns.h"

namespace jml {

enum class OverlapKind { metric1, metric2, soft1, soft2 };
enum class Active { all, present, label, prob, both };

// What all targets of a call share.
struct Formula {
  OverlapKind overlap = OverlapKind::metric1;
  double alpha = 1, beta = 1, gamma = 1, smooth = 0;
  bool log_loss = false;
  double dataset = 1, image = 0, per_class = 0;  // weights of the aggregations
  double threshold = 0;
  const double* class_weights = nullptr;  // or null for 1
};

// What is asked of one target: ce_weight CE + overlap_weight loss.
struct Term {
  double ce_weight = 0, overlap_weight = 0;
  Active active = Active::all;
  bool divergence = false;  // CE less the target's own entropy
};

struct Counts {
  double tp = 0, fp = 0, fn = 0;

  void add(const Counts& other, double factor = 1) {
    tp += factor * other.tp;
    fp += factor * other.fp;
    fn += factor * other.fn;
  }
};

struct ClassLoss {
  double loss;
  Counts gradient;
};

// loss = errors / denominator with errors = alpha FP + beta FN and denominator = TP + errors + s,
// which is 1 - index; or -log(index); then its power. 0/0 counts as 0.
inline ClassLoss class_loss(const Formula& formula, const Counts& counts) {
  const double errors = formula.alpha * counts.fp + formula.beta * counts.fn;
  const double denominator = counts.tp + errors + formula.smooth;
  const double hits = counts.tp + formula.smooth;
  if (denominator == 0) return {0, {}};
  double loss, of_hits, of_errors;  // derivatives by TP, and by errors
  if (formula.log_loss) {
    loss = -std::log(hits / denominator);
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
    slope = formula.gamma * std::pow(loss, formula.gamma - 1);
    loss = std::pow(loss, formula.gamma);
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

  int64_t at(int column, int64_t n, int64_t c) const { return (column * images + n) * classes + c; }

  Counts counts(OverlapKind overlap, int64_t n, int64_t c) const {
    const auto sum = [&](int column) { return sums[at(column, n, c)]; };
    const double both = sum(kIntersection);
    switch (overlap) {
      case OverlapKind::metric1:
        return {sum(kTruePositive), sum(kFalsePositive), sum(kFalseNegative)};
      case OverlapKind::metric2: return {both, sum(kFalsePositive), sum(kFalseNegative)};
      case OverlapKind::soft1: {
        const double excess = sum(kTruePositive) - both;
        return {both, sum(kFalsePositive) + excess, sum(kFalseNegative) + excess};
      }
      default: return {both, sum(kPredictionSquared) - both, sum(kTargetSquared) - both};
    }
  }

  void add_gradient(OverlapKind overlap, int64_t n, int64_t c, const Counts& g, double factor) {
    const auto add = [&](int column, double value) {
      grad_sums[at(column, n, c)] += factor * value;
    };
    const bool metric1 = overlap == OverlapKind::metric1, soft1 = overlap == OverlapKind::soft1;
    if (overlap == OverlapKind::soft2) {
      add(kPredictionSquared, g.fp);
      add(kTargetSquared, g.fn);
    } else {
      add(kFalsePositive, g.fp);
      add(kFalseNegative, g.fn);
    }
    if (metric1) add(kTruePositive, g.tp);
    if (soft1) add(kTruePositive, g.fp + g.fn);
    const bool metric2 = overlap == OverlapKind::metric2;
    if (!metric1) add(kIntersection, metric2 ? g.tp : g.tp - g.fp - g.fn);
  }

  bool active(Active mode, double threshold, int64_t n, int64_t c) const {
    if (mode == Active::all) return true;
    if (mode == Active::present) return extrema[at(kPresent - kSums, n, c)] > 0;
    const int column = mode == Active::label  ? kTargetMax
                       : mode == Active::prob ? kPredictionMax
                                              : kJointMax;
    // Not `>`: a class whose maximum is NaN is active, so that the loss is NaN too.
    return !(extrema[at(column - kSums, n, c)] <= threshold);
  }
};

// Adds `term` of the target to its gradients; returns its value.
inline double add_term(const Formula& formula, const Term& term, TargetStatistics& target) {
  const int64_t n = target.images, c = target.classes;
  double value = 0;
  if (term.ce_weight != 0) {
    double entropy = 0, weight = 0;
    for (int64_t i = 0; i < n; ++i) {
      entropy += target.totals[i];
      if (term.divergence) entropy -= target.totals[(kTargetEntropy - kCrossEntropy) * n + i];
      weight += target.totals[(kCrossEntropyWeight - kCrossEntropy) * n + i];
    }
    if (weight != 0) {
      value += term.ce_weight * entropy / weight;
      for (int64_t i = 0; i < n; ++i) target.grad_totals[i] += term.ce_weight / weight;
    }
  }
  if (term.overlap_weight == 0) return value;

  // How many are active: images of a class, classes of an image, and of those any.
  std::vector<char> active(n * c);
  std::vector<int64_t> images_of(c), classes_of(n);
  int64_t any_image = 0, any_class = 0;
  for (int64_t i = 0; i < n; ++i)
    for (int64_t k = 0; k < c; ++k)
      if (target.active(term.active, formula.threshold, i, k)) {
        active[i * c + k] = 1;
        any_class += images_of[k]++ == 0;
        any_image += classes_of[i]++ == 0;
      }

  for (int64_t k = 0; k < c; ++k) {
    const double weight = formula.class_weights ? formula.class_weights[k] : 1;
    const double factor = term.overlap_weight * weight;
    if (images_of[k] == 0) continue;
    if (formula.dataset != 0) {
      Counts counts;
      for (int64_t i = 0; i < n; ++i) counts.add(target.counts(formula.overlap, i, k));
      const ClassLoss found = class_loss(formula, counts);
      const double share = formula.dataset * factor / double(any_class);
      value += share * found.loss;
      for (int64_t i = 0; i < n; ++i)
        target.add_gradient(formula.overlap, i, k, found.gradient, share);
    }
    if (formula.image == 0 && formula.per_class == 0) continue;
    for (int64_t i = 0; i < n; ++i) {
      if (!active[i * c + k]) continue;
      const ClassLoss found = class_loss(formula, target.counts(formula.overlap, i, k));
      const double share = factor * (formula.image / double(classes_of[i] * any_image) +
                                     formula.per_class / double(images_of[k] * any_class));
      value += share * found.loss;
      target.add_gradient(formula.overlap, i, k, found.gradient, share);
    }
  }
  return value;
}

}  // namespace jml
