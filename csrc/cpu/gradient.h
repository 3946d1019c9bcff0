// Rows of the gradient.
#pragma once

#include "tile.h"

namespace jml::JML_ISA {

// The gradient by p (pixel_math.h) of one class, x against y.
template <typename T>
JML_MATH Vector<T> rule_gradient(const GradientCoefficients<T>& rule, Vector<T> x, Vector<T> y) {
  using V = Vector<T>;
  const V sign = x > y ? V{} + rule.of_sign : x < y ? V{} - rule.of_sign : V{};
  return rule.constant + sign + rule.of_target * y + rule.of_probability * x;
}

// dot += sum over classes of x * g for a few pixels from p on.
template <int kPixels, typename T>
JML_MATH void add_dot(const T* x, const T* scale, const T* y, int64_t y_stride, int64_t classes,
                      int64_t stride, const GradientCoefficients<T>* rules, int p, T* dot, Feed& feed) {
  using V = Vector<T>;
  constexpr int kVectors = kPixels / kWidth<T>;
  V factor[kVectors], sum[kVectors];
  for (int k = 0; k < kVectors; ++k) {
    factor[k] = load(scale, p + k * kWidth<T>);
    sum[k] = load(dot, p + k * kWidth<T>);
  }
  for (int64_t c = 0; c < classes; ++c)
    for (int k = 0; k < kVectors; ++k) {
      const int at = p + k * kWidth<T>;
      const V probability = load(x + c * stride, at) * factor[k];
      sum[k] += probability * rule_gradient(rules[c], probability, load(y + c * y_stride, at));
      if (k % 2) feed.step();
    }
  for (int k = 0; k < kVectors; ++k) store(dot, p + k * kWidth<T>, sum[k]);
}

// At the label, where its own term is lacking in dot: x <- the gradient of its logit.
template <typename T>
void label_gradient(Activation activation, T* __restrict x, const T* __restrict g,
                    T* __restrict dot, int n) {
  if (activation == Activation::softmax)
    for (int p = 0; p < n; ++p) {
      dot[p] += x[p] * g[p];
      x[p] = softmax_gradient(x[p], g[p], dot[p]);
    }
  else if (activation == Activation::sigmoid)
    for (int p = 0; p < n; ++p) x[p] = sigmoid_gradient(x[p], 1 - x[p], g[p]);
  else
    copy(g, n, x);
}

// g of labels that are one class: `hard` is that of x < y = 1. y: of a dense target, at the label.
template <bool kSmooth, bool kDense, int kPixels, typename T>
JML_MATH void label_rules(T hard, const GradientCoefficients<T>& labels, const GradientCoefficients<T>& dense,
                          const T* __restrict x, const T* __restrict on, const T* __restrict y,
                          T* __restrict g) {
  for (int i = 0; i < kPixels; ++i) {
    T sum = kSmooth ? overlap_gradient(labels, x[i], on[i]) : hard;
    if (kDense) sum += overlap_gradient(dense, x[i], y[i]);
    g[i] = sum;
  }
}

// dot -= what a cross-entropy pulls all classes of a pixel by, q times its share: the weight of a
// hard label, of a smoothed one among all weights, or that of a dense target.
template <typename T>
void take_pull(const T* __restrict share, T q, T* __restrict dot, int n) {
  for (int p = 0; p < n; ++p) dot[p] -= q * share[p];
}

template <typename T>
void take_pull(const T* __restrict weight, const T* __restrict on, const T* __restrict off,
               T weights, T q, T* __restrict dot, int n) {
  for (int p = 0; p < n; ++p) dot[p] -= q * (weight[p] * on[p] + (weights - weight[p]) * off[p]);
}

// pull += what a cross-entropy pulls the label's own logit by, q (w y - x sum_j w_j y_j): that of
// labels, with miss = 1 - x, and that of a dense target.
template <typename T>
void add_label_pull(const T* __restrict x, const T* __restrict miss, const T* __restrict weight,
                    const T* __restrict on, const T* __restrict off, T weights, T q,
                    T* __restrict pull, int n) {
  for (int p = 0; p < n; ++p)
    pull[p] += q * (weight[p] * on[p] * miss[p] - x[p] * off[p] * (weights - weight[p]));
}

template <typename T>
void add_label_pull(const T* __restrict x, const T* __restrict y, const T* __restrict share, T q,
                    T* __restrict pull, int n) {
  for (int p = 0; p < n; ++p) pull[p] += q * (y[p] - x[p] * share[p]);
}

template <typename T>
JML_MATH Vector<T> where_class(const int32_t* row, int32_t c, Vector<T> label, Vector<T> other) {
  typedef int32_t Rows __attribute__((vector_size(kWidth<T> * sizeof(int32_t))));
  typedef std::conditional_t<sizeof(T) == sizeof(int32_t), int32_t, int64_t> Wide;
  typedef Wide Mask __attribute__((vector_size(kVectorBytes)));
  Rows rows;
  memcpy(&rows, row, sizeof(rows));
  if constexpr (sizeof(T) == sizeof(int32_t))
    return rows == c ? label : other;
  else
    return __builtin_convertvector(rows, Mask) == c ? label : other;
}

// What makes the gradient of a class beside the tile.
template <typename T>
struct GradientRow {
  GradientCoefficients<T> labels, dense;
  T label_pull = 0, dense_pull = 0;  // q w of cross-entropies
  const T* pull = nullptr;           // of others, a row
  int32_t c = 0;
  bool here = false;  // whether it is the label of any of the pixels
};

// out <- the gradient of the logits of a class, from a row of x, and of y for a dense target.
template <Activation kActivation, bool kLabels, bool kDense, bool kStream, typename T>
JML_MATH void gradient_row(const Tile<T>& tile, const GradientRow<T>& row, const T* x, const T* y,
                           T* out) {
  using V = Vector<T>;
  // With labels: blocks that are not `mixed` have y = 0, and g is this.
  const V above = V{} + (row.labels.constant + row.labels.of_sign);
  for (int p = 0; p < tile.padded; p += kWidth<T>) {
    const V scale = load(tile.scale, p), probability = load(x, p) * scale;
    V g = {}, pull = {};
    if (kLabels && tile.mixed[p / kBlock]) {
      const V off = load(tile.off, p);
      g = rule_gradient(row.labels, probability, off);
      pull = row.label_pull * off;
    } else if (kLabels) {
      g = above;
    }
    if (kDense) {
      const V target = load(y, p);
      g += rule_gradient(row.dense, probability, target);
      pull += row.dense_pull * target;
    }
    V dz = kActivation == Activation::softmax
               ? softmax_gradient<V>(probability, g, load(tile.dot, p)) - pull
           : kActivation == Activation::sigmoid ? sigmoid_gradient<V>(probability, 1 - probability, g)
                                                : g * scale;
    if (kLabels && row.here) dz = where_class<T>(tile.row + p, row.c, load(tile.label_x, p), dz);
    if (row.pull) dz -= load(row.pull, p);
    if (kStream)
      stream(out, p, dz);
    else
      store(out, p, dz);
  }
}

}  // namespace jml::JML_ISA
