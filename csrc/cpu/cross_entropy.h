// Cross-entropies of a tile, pixel by pixel, and their gradient.
//
//     softmax  sum_c w_c y_c (-log p_c), from what softmax_tile leaves:
//              -log p_c = (z_max - z_c) + log1p(exp_sum_minus_1)
//     sigmoid  sum_c w_c (-y_c log p_c - (1 - y_c) log(1 - p_c)), element by element
//     none     either of the two, of probabilities
//
// With q the gradient of the loss by these sums, that by the logits is
//
//     softmax  q p_c M - q w_c y_c, where M = sum_c w_c y_c is the target mass
//     sigmoid  q w_c (p_c - y_c)
//     none     -q w_c y_c / p_c
//
// Of a softmax the first part is p_c times one number of a pixel, as the gradient of the overlap
// has it: it is taken off `dot`. Everything else is kept as what is subtracted from the gradient of
// the overlap: rows called minus_ce_gradient hold minus the gradient of the cross-entropy.
#pragma once

#include "softmax.h"
#include "tile.h"

namespace jml::JML_ISA {

// ---- softmax -------------------------------------------------------------------------------

// Against labels: out <- target_at_label w nll + target_elsewhere (sum of w_c nll_c over the other
// classes), where nll = -log p of the label. The others have nll + z_label - z_c each, so that
// their sum is nll (sum of w_c) - weighted_label_gap.
template <typename T>
void label_entropy(const T* __restrict label_gap, const T* __restrict exp_sum_minus_1,
                   const T* __restrict weight, T weight_sum, const T* __restrict weighted_label_gap,
                   const T* __restrict target_at_label, const T* __restrict target_elsewhere,
                   T* __restrict out, int n) {
  for (int i = 0; i < n; ++i) {
    const T nll = label_gap[i] + log1p_positive(exp_sum_minus_1[i]);
    // An impossible label is infinitely wrong, whatever the others are.
    const T others = nll - nll == 0 ? (weight_sum - weight[i]) * nll - weighted_label_gap[i] : nll;
    out[i] = (weight[i] != 0 ? target_at_label[i] * weight[i] * nll : T(0)) +
             (target_elsewhere[i] != 0 ? target_elsewhere[i] * others : T(0));
  }
}

// The same against hard labels.
template <typename T>
void label_entropy(const T* __restrict label_gap, const T* __restrict exp_sum_minus_1,
                   const T* __restrict weight, T* __restrict out, int n) {
  for (int i = 0; i < n; ++i)
    out[i] =
        weight[i] != 0 ? weight[i] * (label_gap[i] + log1p_positive(exp_sum_minus_1[i])) : T(0);
}

// weighted_label_gap += weight (z - z_label)
template <typename T>
void add_label_gap(const T* __restrict z, const T* __restrict z_label, T weight,
                   T* __restrict weighted_label_gap, int n) {
  for (int i = 0; i < n; ++i) weighted_label_gap[i] += weight * (z[i] - z_label[i]);
}

// Against a dense target: out <- weighted_gap + target_mass log1p(exp_sum_minus_1). With labels,
// weighted_gap lacks the term of the label's class, which is not in the tile: `y_label` is the
// target there, and null without labels.
template <typename T>
void dense_entropy(const T* __restrict weighted_gap, const T* __restrict target_mass,
                   const T* __restrict exp_sum_minus_1, const T* __restrict label_gap,
                   const T* __restrict y_label, T* __restrict out, int n) {
  for (int i = 0; i < n; ++i) {
    const T y = y_label ? y_label[i] : T(0);
    const T label_term = y != 0 ? y * label_gap[i] : T(0);
    out[i] = weighted_gap[i] + label_term + target_mass[i] * log1p_positive(exp_sum_minus_1[i]);
  }
}

// dot -= q target_mass
template <typename T>
void subtract_target_mass(const T* __restrict target_mass, T q, T* __restrict dot, int n) {
  for (int i = 0; i < n; ++i) dot[i] -= q * target_mass[i];
}

// The same with the target mass of smoothed labels.
template <typename T>
void subtract_target_mass(const T* __restrict weight, const T* __restrict target_at_label,
                          const T* __restrict target_elsewhere, T weight_sum, T q,
                          T* __restrict dot, int n) {
  for (int i = 0; i < n; ++i)
    dot[i] -= q * (weight[i] * target_at_label[i] + (weight_sum - weight[i]) * target_elsewhere[i]);
}

// minus_gradient += q (w y - p M) at the label. Against labels: with 1 - p as p_not_label, which
// has the digits of a confident prediction.
template <typename T>
void add_at_label(const T* __restrict p, const T* __restrict p_not_label,
                  const T* __restrict weight, const T* __restrict target_at_label,
                  const T* __restrict target_elsewhere, T weight_sum, T q,
                  T* __restrict minus_gradient, int n) {
  for (int i = 0; i < n; ++i)
    minus_gradient[i] += q * (weight[i] * target_at_label[i] * p_not_label[i] -
                              p[i] * target_elsewhere[i] * (weight_sum - weight[i]));
}

// The same against a dense target, without weights.
template <typename T>
void add_at_label(const T* __restrict p, const T* __restrict y, const T* __restrict target_mass,
                  T q, T* __restrict minus_gradient, int n) {
  for (int i = 0; i < n; ++i) minus_gradient[i] += q * (y[i] - p[i] * target_mass[i]);
}

// At a temperature of its own: x <- q (weight y - target_mass p), with p = x scale, is minus the
// gradient by the logits of a class.
template <typename T>
void minus_softmax_gradient(T* __restrict x, const T* __restrict scale,
                            const T* __restrict target_mass, const T* __restrict y, T q, T weight,
                            int n) {
  for (int i = 0; i < n; ++i) x[i] = q * (weight * y[i] - target_mass[i] * scale[i] * x[i]);
}

// ---- element by element --------------------------------------------------------------------

// The target of one class in a row of pixels, of labels or of a dense target.
template <typename T>
struct RowTarget {
  const T* y = nullptr;  // dense
  const int32_t* row = nullptr;
  int32_t c = 0;
  const T *at_label = nullptr, *elsewhere = nullptr;

  JML_MATH T operator()(int i) const { return y ? y[i] : row[i] == c ? at_label[i] : elsewhere[i]; }
};

// -y log p, and -(1 - y) log(1 - p) where classes are independent, with p that of z; 0 log 0 = 0.
template <Activation kActivation, typename T>
JML_MATH T element_entropy(T z, T y, bool independent) {
  if constexpr (kActivation == Activation::sigmoid) {
    const T log1p_exp = log1p_positive(jml::exp_nonpositive(z < 0 ? z : -z));
    const T nll = (z < 0 ? -z : T(0)) + log1p_exp, nll_not = (z > 0 ? z : T(0)) + log1p_exp;
    return (y != 0 ? y * nll : T(0)) + (y != 1 ? (1 - y) * nll_not : T(0));
  } else {
    const T entropy = y != 0 ? -y * log_any(z) : T(0);
    return independent && y != 1 ? entropy - (1 - y) * log_any(1 - z) : entropy;
  }
}

// Minus the gradient of the same by z.
template <Activation kActivation, typename T>
JML_MATH T minus_element_gradient(T z, T y, bool independent) {
  if constexpr (kActivation == Activation::sigmoid) {
    return y - sigmoid(z);
  } else {
    const T gradient = y != 0 ? y / z : T(0);
    return independent && y != 1 ? gradient - (1 - y) / (1 - z) : gradient;
  }
}

// out += factor element_entropy(z / temperature, y)
template <Activation kActivation, typename T>
void add_entropy(const T* __restrict z, RowTarget<T> y, T factor, T temperature, bool independent,
                 T* __restrict out, int n) {
  for (int i = 0; i < n; ++i)
    out[i] += factor * element_entropy<kActivation>(z[i] / temperature, y(i), independent);
}

// out += factor minus_element_gradient(z / temperature, y) where a pixel is valid
template <Activation kActivation, typename T>
void add_minus_gradient(const T* __restrict z, RowTarget<T> y, T factor, T temperature,
                        bool independent, const T* __restrict valid, T* __restrict out, int n) {
  for (int i = 0; i < n; ++i)
    out[i] += factor * valid[i] *
              minus_element_gradient<kActivation>(z[i] / temperature, y(i), independent);
}

// A teacher's logits become probabilities, 0 where not valid; entropy, or null, gains theirs.
template <typename T>
void teach_row(T* __restrict y, const T* __restrict valid, T* __restrict entropy, int n) {
  for (int i = 0; entropy && i < n; ++i)
    entropy[i] += element_entropy<Activation::sigmoid>(y[i], sigmoid(y[i]), true);
  for (int i = 0; i < n; ++i) y[i] = valid[i] * sigmoid(y[i]);
}

// ---- of a tile -----------------------------------------------------------------------------

// What a pass asks of a tile beside x and y.
template <typename T>
struct Requested {
  // Forward: faults, and entropies, one number for each pixel.
  bool faults = false;
  bool label_entropy = false, dense_entropy = false, teacher_entropy = false;
  // Backward: the gradients of the loss by the cross-entropies, and, with labels, a number a_c for
  // each class of which `dot` is to be the sum with p_c.
  T label_q = 0, dense_q = 0;
  const T* dot_coefficients = nullptr;
  bool keeps_logits = false;  // of a sigmoid, in x
};

// The cross-entropies of a tile, made as it is loaded: from the softmax of the logits, or from the
// logits before it where they need other numbers.
template <typename T>
class CrossEntropies {
 public:
  explicit CrossEntropies(Tile<T>& tile) : tile(tile), args(tile.args), classes(tile.classes) {}

  // While x holds logits, those of the labels included.
  void before_activation(const Requested<T>& requested) {
    if (args.has_labels()) place_weights();
    if (args.separate_entropy()) make_separately(requested);
    if (requested.label_entropy && tile.label.any_smoothed && is_softmax()) add_label_gaps();
  }

  // Whether the softmax is to sum up the dense target's as it goes. The backward needs the target
  // mass alone, which is known of a teacher.
  bool in_softmax(const Requested<T>& requested) const {
    return !args.separate_dense_entropy() &&
           (requested.dense_entropy || (requested.dense_q != 0 && !args.unit_target_mass()));
  }

  void after_activation(const Requested<T>& requested) {
    if (!is_softmax()) return;
    LabelState<T>& label = tile.label;
    SoftmaxState<T>& softmax = tile.softmax;
    EntropyState<T>& entropy = tile.entropy;
    const int n = tile.padded;
    if (requested.label_entropy && label.any_smoothed)
      label_entropy(softmax.label_gap, softmax.exp_sum_minus_1, entropy.label_weight,
                    entropy.label_weight_sum, entropy.weighted_label_gap, label.target_at_label,
                    label.target_elsewhere, entropy.of_labels, n);
    else if (requested.label_entropy)
      label_entropy(softmax.label_gap, softmax.exp_sum_minus_1, entropy.label_weight,
                    entropy.of_labels, n);
    if (args.separate_dense_entropy()) return;
    const T* y_label = args.has_labels() ? label.dense_at_label : nullptr;
    if (args.unit_target_mass()) {
      entropy.target_mass = tile.valid;
    } else {
      entropy.target_mass = softmax.target_mass;
      if (y_label) add_row(y_label, n, softmax.target_mass);
    }
    if (requested.dense_entropy)
      dense_entropy(softmax.weighted_gap, entropy.target_mass, softmax.exp_sum_minus_1,
                    softmax.label_gap, y_label, entropy.of_dense, n);
  }

 private:
  Tile<T>& tile;
  const Arguments& args;
  const int64_t classes;

  bool is_softmax() const { return args.activation == Activation::softmax; }

  void place_weights() {
    if (!args.ce_class_weights) return;
    EntropyState<T>& entropy = tile.entropy;
    for (int i = 0; i < tile.padded; ++i)
      entropy.label_weight_row[i] = entropy.label_class_weights[tile.label.row[i]];
    entropy.label_weight = entropy.label_weight_row;
  }

  // Of blocks where labels are smoothed.
  void add_label_gaps() {
    const int n = tile.padded;
    const int32_t* row = tile.label.row;
    T *z_label = tile.label.z_label, *gap = tile.entropy.weighted_label_gap;
    const T* weights = tile.entropy.label_class_weights;
    for (int i = 0; i < n; ++i) z_label[i] = row[i] < classes ? tile.x_row(row[i])[i] : T(0);
    fill(gap, n, T(0));
    for (int64_t c = 0; c < classes; ++c)
      for (int first = 0; first < n && weights[c] != 0; first += kBlock)
        if (tile.label.has_smoothed[first / kBlock])
          add_label_gap(tile.x_row(c) + first, z_label + first, weights[c], gap + first, kBlock);
  }

  // Cross-entropies that are not of the logits' own softmax.
  void make_separately(const Requested<T>& requested) {
    if (is_softmax()) return at_temperature(requested);
    if (requested.label_q != 0 || requested.dense_q != 0)
      fill(tile.entropy.minus_ce_gradient, classes * tile.stride, T(0));
    if (args.activation == Activation::sigmoid)
      by_element<Activation::sigmoid>(requested);
    else
      by_element<Activation::none>(requested);
  }

  template <Activation kActivation>
  void by_element(const Requested<T>& requested) {
    const int n = tile.padded;
    const bool independent = args.independent();
    const auto against = [&](bool entropy_requested, T* out, T q, const T* weights, T temperature,
                             auto target) {
      if (entropy_requested) fill(out, n, T(0));
      for (int64_t c = 0; c < classes; ++c) {
        if (entropy_requested)
          add_entropy<kActivation>(tile.x_row(c), target(c), weights[c], temperature, independent,
                                   out, n);
        if (q != 0)
          add_minus_gradient<kActivation>(tile.x_row(c), target(c), q * weights[c] / temperature,
                                          temperature, independent, tile.valid,
                                          tile.minus_ce_gradient_row(c), n);
      }
    };
    const LabelState<T>& label = tile.label;
    EntropyState<T>& entropy = tile.entropy;
    against(requested.label_entropy, entropy.of_labels, requested.label_q,
            entropy.label_class_weights, T(1), [&](int64_t c) {
              return RowTarget<T>{nullptr, label.row, int32_t(c), label.target_at_label,
                                  label.target_elsewhere};
            });
    against(requested.dense_entropy, entropy.of_dense, requested.dense_q,
            entropy.dense_class_weights, T(args.student_temperature),
            [&](int64_t c) { return RowTarget<T>{tile.y_row(c)}; });
  }

  // That of a dense target at a temperature of its own takes another softmax.
  void at_temperature(const Requested<T>& requested) {
    if (!requested.dense_entropy && requested.dense_q == 0) return;
    const SoftmaxState<T>& softmax = tile.other_softmax;
    EntropyState<T>& entropy = tile.entropy;
    const int n = tile.padded;
    const T temperature = T(args.student_temperature);
    T* x = entropy.minus_ce_gradient;
    for (int64_t c = 0; c < classes; ++c)
      divide_row(tile.x_row(c), temperature, n, x + c * tile.stride);
    const SoftmaxRows<T> rows{.valid = tile.valid,
                              .y = tile.y,
                              .class_weights = entropy.dense_class_weights,
                              .scale = softmax.scale,
                              .exp_sum_minus_1 = softmax.exp_sum_minus_1,
                              .weighted_gap = softmax.weighted_gap,
                              .target_mass = softmax.target_mass};
    Prefetch none;
    softmax_tile<false, false, EntropyTarget::weighted>(x, classes, tile.stride, n, rows, none);
    if (requested.dense_entropy)
      dense_entropy<T>(softmax.weighted_gap, softmax.target_mass, softmax.exp_sum_minus_1, nullptr,
                       nullptr, entropy.of_dense, n);
    for (int64_t c = 0; requested.dense_q != 0 && c < classes; ++c)
      minus_softmax_gradient(x + c * tile.stride, softmax.scale, softmax.target_mass,
                             tile.y_row(c), requested.dense_q / temperature,
                             entropy.dense_class_weights[c], n);
  }
};

}  // namespace jml::JML_ISA
