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

// The modes of jml_kernels/checks.py: `counted` is "all" of a dense target.
enum class Active { all, present, label, prob, both, counted };
// Over classes, as jml_kernels/checks.py has them; a loss of each class is not made here.
enum class Reduction { mean, sum, image, none };

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

// Which classes may enter a mean, of a tensor of bool; all where there is none.
struct ClassMask {
  const uint8_t* data = nullptr;
  int64_t stride = 0;

  JML_MATH bool at(int64_t c) const { return !data || data[c * stride]; }
};

constexpr int kCounts = 3;  // TP, FP, FN

// What all targets of a call share.
struct Formula {
  // The counts TP, FP and FN of the overlap are this matrix times the sums (jml_kernels/overlaps.py).
  double overlap[kCounts][kSums] = {};
  double alpha = 1, beta = 1, gamma = 1;
  double smooth_numerator = 0, smooth_denominator = 0;
  bool log_loss = false;
  double index_floor = 0;                        // what a logarithm takes of a smaller index
  double dataset = 1, image = 0, per_class = 0;  // weights of the aggregations
  double threshold = 0;
  bool has_inactive_loss = false;  // whether inactive classes count, with this loss
  double inactive_loss = 0;
  bool weighted_mean = false;  // whether means over classes are divided by the sum of weights
  Reduction reduction = Reduction::mean;
  ClassWeights class_weights;
  ClassMask class_mask;
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

// The loss of a class and its derivatives, of the counts. With errors = alpha FP + beta FN,
// hits = TP + s1 and denominator = TP + errors + s2 the index is hits / denominator, and the loss
// (errors + s2 - s1) / denominator, which is 1 - index; or -log(index); then its power. 0/0 counts
// as 0.
JML_MATH ClassLoss class_loss(const Formula& formula, const Counts& counts) {
  const double errors = formula.alpha * counts.fp + formula.beta * counts.fn;
  const double denominator = counts.tp + errors + formula.smooth_denominator;
  const double hits = counts.tp + formula.smooth_numerator;
  const double beyond = formula.smooth_denominator - formula.smooth_numerator;
  if (denominator == 0) return {0, {}};
  double loss, of_hits, of_errors;  // derivatives by TP, and by errors
  if (formula.log_loss) {
    const bool is_floored = hits / denominator <= formula.index_floor;
    loss = -log(is_floored ? formula.index_floor : hits / denominator);
    of_hits = is_floored ? 0 : 1 / denominator - 1 / hits;
    of_errors = is_floored ? 0 : 1 / denominator;
  } else {
    loss = (errors + beyond) / denominator;
    of_hits = -(errors + beyond) / (denominator * denominator);
    of_errors = hits / (denominator * denominator);
  }
  // A loss that only rounding makes negative counts as 0, and so does one that has no power.
  const bool is_clamped = formula.gamma != 1 || (formula.alpha == formula.beta && beyond >= 0);
  if (is_clamped && loss < 0) return {0, {}};
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

  // Whether the overlap is made of a column.
  JML_MATH static bool is_used(const Formula& formula, int column) {
    return formula.overlap[0][column] != 0 || formula.overlap[1][column] != 0 ||
           formula.overlap[2][column] != 0;
  }

  // The matrix times the sums. XY and TP are added first: TP - XY is exactly 0 wherever x or y is
  // hard, and stays so. A column with the factor 0 is not asked for, and not looked at.
  JML_MATH Counts counts(const Formula& formula, int64_t n, int64_t c) const {
    constexpr int kOrder[kSums] = {kIntersection,  kTruePositive,      kFalsePositive,
                                   kFalseNegative, kPredictionSquared, kTargetSquared};
    double values[kSums];  // all are read before the first is used, so that none waits for another
    for (int column = 0; column < kSums; ++column)
      values[column] = is_used(formula, column) ? sums[at(column, n, c)] : 0;
    const auto count = [&](const double (&row)[kSums]) {
      double sum = 0;
      for (int column : kOrder)
        if (row[column] != 0) sum += row[column] * values[column];
      return sum;
    };
    return {count(formula.overlap[0]), count(formula.overlap[1]), count(formula.overlap[2])};
  }

  // The transposed matrix times the gradients of the counts.
  JML_MATH void add_gradient(const Formula& formula, int64_t n, int64_t c, const Counts& g,
                             double factor) {
    double before[kSums];
    for (int column = 0; column < kSums; ++column)
      before[column] = is_used(formula, column) ? grad_sums[at(column, n, c)] : 0;
    for (int column = 0; column < kSums; ++column) {
      if (!is_used(formula, column)) continue;
      const double of_tp = formula.overlap[0][column], of_fp = formula.overlap[1][column],
                   of_fn = formula.overlap[2][column];
      double sum = 0;
      if (of_tp != 0) sum += of_tp * g.tp;
      if (of_fp != 0) sum += of_fp * g.fp;
      if (of_fn != 0) sum += of_fn * g.fn;
      grad_sums[at(column, n, c)] = before[column] + factor * sum;
    }
  }

  // The number of pixels of an image that count.
  JML_MATH double valid(int64_t n) const { return totals[(kValid - kCrossEntropy) * images + n]; }
  // NaN if the image holds what is no label or no probability, which its number of pixels says, and
  // 0 otherwise: added to a loss it makes that NaN, whichever terms and classes there are.
  JML_MATH double poison(int64_t n) const { return 0 * valid(n); }

  // Whether a class of an image is active: its mode says so, and a pixel of the image counts.
  JML_MATH bool active(const Formula& formula, Active mode, int64_t n, int64_t c) const {
    if (!formula.class_mask.at(c) || valid(n) == 0) return false;
    if (mode == Active::all) return true;
    if (mode == Active::present) return extrema[at(kPresent - kSums, n, c)] > 0;
    if (mode == Active::counted) return extrema[at(kCounted - kSums, n, c)] > 0;
    const int column = mode == Active::label  ? kTargetMax
                       : mode == Active::prob ? kPredictionMax
                                              : kJointMax;
    // Not `>`: a class whose maximum is NaN is active, so that the loss is NaN too.
    return !(extrema[at(column - kSums, n, c)] <= formula.threshold);
  }

  // What the cross-entropy of an image adds up to, and what it is divided by.
  JML_MATH double cross_entropy(const Term& term, int64_t n) const {
    const double entropy = totals[n];
    return term.divergence ? entropy - totals[(kTargetEntropy - kCrossEntropy) * images + n]
                           : entropy;
  }
  JML_MATH double cross_entropy_weight(int64_t n) const {
    return totals[(kCrossEntropyWeight - kCrossEntropy) * images + n];
  }
};

// Who computes: a team of threads, which consists of crews of equal size. A class belongs to one crew,
// whose threads share out the images, or an image to one crew, whose threads share out the classes:
// thread i of a crew takes those whose number has the remainder i. `sum` adds up over the team and
// `sum_of_crew` over a crew, each in one order, and all of its threads get the result. `sum` is also
// a barrier: after it each thread sees what the others wrote.
struct Alone {
  static constexpr int64_t rank = 0, size = 1;             // in the team
  static constexpr int64_t crew = 0, crews = 1;            // the thread's crew, and how many there are
  static constexpr int64_t crew_rank = 0, crew_size = 1;  // in the crew
  static double sum(double value) { return value; }
  static double sum_of_crew(double value) { return value; }
};

template <typename Team>
JML_MATH double add_cross_entropy(Team& team, const Term& term, TargetStatistics& target) {
  const int64_t n = target.images;
  double entropy = 0, weight = 0;
  for (int64_t i = team.rank; i < n; i += team.size) {
    entropy += target.cross_entropy(term, i);
    weight += target.cross_entropy_weight(i);
  }
  entropy = team.sum(entropy);
  weight = team.sum(weight);
  if (weight == 0) return 0;
  for (int64_t i = team.rank; i < n; i += team.size)
    target.grad_totals[i] += term.ce_weight / weight;
  return term.ce_weight * entropy / weight;
}

// The overlap loss of one class in one image, or with counts of the whole batch.
struct OverlapTerm {
  const Formula& formula;
  const Term& term;
  TargetStatistics& target;

  JML_MATH bool active(int64_t i, int64_t k) const {
    return target.active(formula, term.active, i, k);
  }
  // Whether a class enters the mean of an image: active, or counted with the inactive loss.
  JML_MATH bool counts(int64_t i, int64_t k) const {
    return formula.has_inactive_loss ? formula.class_mask.at(k) : active(i, k);
  }
  // What a crew learns of its class: in how many images it enters.
  template <typename Team>
  JML_MATH double images_counted(Team& team, int64_t k) const {
    double count = 0;
    for (int64_t i = team.crew_rank; i < target.images; i += team.crew_size) count += counts(i, k);
    return team.sum_of_crew(count);
  }
  // The thread's part of `share` times the loss of a class in an image, and its gradient.
  JML_MATH double add(int64_t i, int64_t k, double share) {
    if (!active(i, k)) return share * formula.inactive_loss;
    const ClassLoss result = class_loss(formula, target.counts(formula, i, k));
    target.add_gradient(formula, i, k, result.gradient, share);
    return share * result.loss;
  }
  // The same of a class in the whole batch, by its crew. One of its threads has the loss.
  template <typename Team>
  JML_MATH double add_of_batch(Team& team, int64_t k, double share) {
    double active_images = 0;
    Counts counts;
    for (int64_t i = team.crew_rank; i < target.images; i += team.crew_size) {
      active_images += active(i, k);
      counts.add(target.counts(formula, i, k));
    }
    active_images = team.sum_of_crew(active_images);
    counts = {team.sum_of_crew(counts.tp), team.sum_of_crew(counts.fp),
              team.sum_of_crew(counts.fn)};
    const bool has_the_loss = team.crew_rank == 0;
    if (active_images == 0) return has_the_loss ? share * formula.inactive_loss : 0;
    const ClassLoss result = class_loss(formula, counts);
    for (int64_t i = team.crew_rank; i < target.images; i += team.crew_size)
      target.add_gradient(formula, i, k, result.gradient, share);
    return has_the_loss ? share * result.loss : 0;
  }
};

// The classes that enter a mean: how many they are, and what their sum is divided by.
struct Classes {
  double count = 0, divisor = 0;

  JML_MATH void add(const Formula& formula, int64_t k) {
    count += 1;
    divisor += formula.class_weights.at(k);
  }
  // Adds up over threads with sum(value), and applies the reduction.
  template <typename Sum>
  JML_MATH void gather(const Formula& formula, Sum sum) {
    count = sum(count);
    divisor = formula.reduction == Reduction::sum ? 1.0
              : formula.weighted_mean             ? sum(divisor)
                                                  : count;
  }
  JML_MATH bool empty() const { return count == 0 || divisor == 0; }
};

// Those of an image, found by its crew.
template <typename Team>
JML_MATH Classes classes_of_image(Team& team, const OverlapTerm& overlap, int64_t i) {
  Classes classes;
  for (int64_t k = team.crew_rank; k < overlap.target.classes; k += team.crew_size)
    if (overlap.counts(i, k)) classes.add(overlap.formula, k);
  classes.gather(overlap.formula, [&](double value) { return team.sum_of_crew(value); });
  return classes;
}

// The thread's part of `share` times the weighted sum over the classes of an image, by its crew.
template <typename Team>
JML_MATH double add_classes_of_image(Team& team, OverlapTerm& overlap, const Classes& classes,
                                     int64_t i, double share) {
  double value = 0;
  for (int64_t k = team.crew_rank; k < overlap.target.classes && !classes.empty();
       k += team.crew_size)
    if (overlap.counts(i, k))
      value += overlap.add(i, k, share * overlap.formula.class_weights.at(k));
  return value;
}

// Means over classes, of the batch or of the images in which they count: the thread's part.
template <typename Team>
JML_MATH double add_means_over_classes(Team& team, OverlapTerm& overlap) {
  const Formula& formula = overlap.formula;
  const int64_t n = overlap.target.images, c = overlap.target.classes;
  Classes classes;
  for (int64_t k = team.crew; k < c; k += team.crews)
    if (overlap.images_counted(team, k) > 0 && team.crew_rank == 0) classes.add(formula, k);
  classes.gather(formula, [&](double value) { return team.sum(value); });
  if (classes.empty()) return 0;
  double value = 0;
  for (int64_t k = team.crew; k < c; k += team.crews) {
    const double factor = overlap.term.overlap_weight * formula.class_weights.at(k);
    const double images = overlap.images_counted(team, k);
    if (images == 0) continue;
    if (formula.dataset != 0)
      value += overlap.add_of_batch(team, k, formula.dataset * factor / classes.divisor);
    for (int64_t i = team.crew_rank; i < n && formula.per_class != 0; i += team.crew_size)
      if (overlap.counts(i, k))
        value += overlap.add(i, k, formula.per_class * factor / (images * classes.divisor));
  }
  return value;
}

// Mean over images, of means over the classes that count there: the thread's part.
template <typename Team>
JML_MATH double add_means_over_images(Team& team, OverlapTerm& overlap) {
  const int64_t n = overlap.target.images;
  double images = 0;
  for (int64_t i = team.crew; i < n; i += team.crews)
    images += classes_of_image(team, overlap, i).count > 0 && team.crew_rank == 0;
  images = team.sum(images);
  double value = 0;
  for (int64_t i = team.crew; i < n; i += team.crews) {
    const Classes classes = classes_of_image(team, overlap, i);
    const double share =
        overlap.formula.image * overlap.term.overlap_weight / (classes.divisor * images);
    value += add_classes_of_image(team, overlap, classes, i, share);
  }
  return value;
}

// Adds `term` of the target to its gradients; returns its value, to every thread.
template <typename Team>
JML_MATH double add_term(Team& team, const Formula& formula, const Term& term,
                         TargetStatistics& target) {
  double poison = 0;
  for (int64_t i = team.rank; i < target.images; i += team.size) poison += target.poison(i);
  double entropy = team.sum(poison);
  if (term.ce_weight != 0) entropy += add_cross_entropy(team, term, target);
  if (term.overlap_weight == 0) return entropy;
  OverlapTerm overlap{formula, term, target};
  double value = 0;
  if (formula.dataset != 0 || formula.per_class != 0)
    value += add_means_over_classes(team, overlap);
  // Its sum of images parts what it adds to gradients from what was added above.
  if (formula.image != 0) value += add_means_over_images(team, overlap);
  return entropy + team.sum(value);
}

// The same for one image alone, whose loss is that of no other: reduction "image". Its crew makes it.
template <typename Team>
JML_MATH double add_term_of_image(Team& team, const Formula& formula, const Term& term,
                                  TargetStatistics& target, int64_t i) {
  double entropy = target.poison(i);
  const double weight = target.cross_entropy_weight(i);
  if (term.ce_weight != 0 && weight != 0) {
    if (team.crew_rank == 0) target.grad_totals[i] += term.ce_weight / weight;
    entropy += term.ce_weight * target.cross_entropy(term, i) / weight;
  }
  if (term.overlap_weight == 0) return entropy;
  OverlapTerm overlap{formula, term, target};
  const Classes classes = classes_of_image(team, overlap, i);
  const double share = formula.image * term.overlap_weight / classes.divisor;
  const double value = add_classes_of_image(team, overlap, classes, i, share);
  return entropy + team.sum_of_crew(value);
}

}  // namespace jml
