// Rows of the gradient.
#pragma once

#include "arguments.h"
#include "feed.h"
#include "pixels.h"

namespace jml::JML_ISA {

// The gradient rule (pixel_math.h) of one class, x against y.
template <typename T>
JML_MATH Vector<T> rule_gradient(const GradientRule<T>& rule, Vector<T> x, Vector<T> y) {
  using V = Vector<T>;
  const V sign = x > y ? V{} + rule.b : x < y ? V{} - rule.b : V{};
  return rule.a + sign + rule.c * y + rule.d * x;
}

// dot = sum over classes of x * g for a few pixels from p on.
template <int kPixels, typename T>
JML_MATH void find_dot(const T* x, const T* scale, const T* y, int64_t y_stride, int64_t classes,
                       int64_t stride, const GradientRule<T>* rules, int p, T* dot, Feed& feed) {
  using V = Vector<T>;
  constexpr int kVectors = kPixels / kWidth<T>;
  V factor[kVectors], sum[kVectors] = {};
  for (int k = 0; k < kVectors; ++k) factor[k] = load(scale, p + k * kWidth<T>);
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
    for (int p = 0; p < n; ++p) x[p] = sigmoid_gradient(x[p], g[p]);
  else
    copy(g, n, x);
}

// What a row of the gradient is made of, but for x.
template <typename T>
struct GradientRows {
  const T* scale;        // x * scale is the probability
  const T* dot;          // softmax: sum over classes of x * g
  const uint8_t* mixed;  // with labels: blocks that are not have y = 0, and g = `above`
  const int32_t* row;    // with labels: the class of each pixel, whose gradient is in `label`
  const T* label;
};

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

// out <- the gradient of the logits of class c, from a row of x, of y, and the rule of its class;
// `here`: whether it is the label of any of the pixels.
template <Activation kActivation, bool kLabels, bool kStream, typename T>
JML_MATH void gradient_row(const GradientRows<T>& rows, const T* x, const T* y,
                           const GradientRule<T>& rule, int32_t c, bool here, T* out, int n) {
  using V = Vector<T>;
  const V above = V{} + (rule.a + rule.b);
  for (int p = 0; p < n; p += kWidth<T>) {
    const V scale = load(rows.scale, p), probability = load(x, p) * scale;
    V g = above;
    if (!kLabels || rows.mixed[p / kBlock]) g = rule_gradient(rule, probability, load(y, p));
    V dz = kActivation == Activation::softmax
               ? softmax_gradient<V>(probability, g, load(rows.dot, p))
           : kActivation == Activation::sigmoid ? sigmoid_gradient<V>(probability, g)
                                                : g * scale;
    if (kLabels && here) dz = where_class<T>(rows.row + p, c, load(rows.label, p), dz);
    if (kStream)
      stream(out, p, dz);
    else
      store(out, p, dz);
  }
}

}  // namespace jml::JML_ISA
