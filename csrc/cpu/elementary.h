// Elementary functions and the terms of one pixel, for numbers and for vectors of them:
// exponential, logarithm, sigmoid, the target that a label makes, the terms of the statistics. They
// have no branches, so that the compiler can vectorise loops over pixels. p is a probability, y its
// target.
#pragma once

#include "../pixel_math.h"

namespace jml {

// ---- exponential of x <= 0 -----------------------------------------------------------------
// e^x = 2^n 2^f with n the nearest integer to x log2(e). Adding 1.5 * 2^(mantissa bits) rounds
// and leaves n in the low bits. 2^n is a float made from n, and a factor, so that NaN stays NaN.
// Below the smallest normal number the result is 0; -inf gives 0.

// 2^f on [-1/2, 1/2]: a minimax polynomial with error 9.1e-8 and value 1 at 0.
template <typename F>
JML_MATH F exp2_fraction(F f) {
  F sum = f * 0.001326472731307149f + 0.009671512991189957f;
  sum = sum * f + 0.05550733581185341f;
  sum = sum * f + 0.24022242426872253f;
  sum = sum * f + 0.6931470036506653f;
  return sum * f + 1.0f;
}

// Written once for a number and for a vector of them; Bits is the unsigned integer of F's shape.
// Relative error 1.5e-7; f carries |x| * 1.4e-8 from the rounded constant.
template <typename Bits, typename F>
JML_MATH F exp_single(F x) {
  const F shifted = x * 1.44269504f + 12582912.0f;
  const F f = x * 1.44269504f - (shifted - 12582912.0f);
  const F power = bit_cast<F>((bit_cast<Bits>(shifted) << 23) + (127u << 23));
  return x < -87.0f ? F{} : exp2_fraction(f) * power;
}

// Relative error 1e-15: the Taylor series of e^r to degree 13, |r| <= ln(2) / 2, with ln(2) in
// two parts.
template <typename Bits, typename F>
JML_MATH F exp_double(F x) {
  const F shifted = x * 1.4426950408889634 + 6755399441055744.0;
  const F n = shifted - 6755399441055744.0;
  const F r = (x - n * 0.693147180369123816490) - n * 1.90821492927058770002e-10;
  F sum = r * (1.0 / 6227020800.0) + 1.0 / 479001600.0;
  sum = sum * r + 1.0 / 39916800.0;
  sum = sum * r + 1.0 / 3628800.0;
  sum = sum * r + 1.0 / 362880.0;
  sum = sum * r + 1.0 / 40320.0;
  sum = sum * r + 1.0 / 5040.0;
  sum = sum * r + 1.0 / 720.0;
  sum = sum * r + 1.0 / 120.0;
  sum = sum * r + 1.0 / 24.0;
  sum = sum * r + 1.0 / 6.0;
  sum = sum * r + 0.5;
  sum = sum * r + 1.0;
  sum = sum * r + 1.0;
  const F power = bit_cast<F>((bit_cast<Bits>(shifted) << 52) + (uint64_t{1023} << 52));
  return x < -708.0 ? F{} : sum * power;
}

JML_MATH float exp_nonpositive(float x) { return exp_single<uint32_t>(x); }
JML_MATH double exp_nonpositive(double x) { return exp_double<uint64_t>(x); }

// ---- logarithm ----------------------------------------------------------------------------
template <typename T>
struct Format;
template <>
struct Format<float> {
  using Int = int32_t;
  static constexpr int kMantissa = 23, kLogTerms = 5;
  static constexpr Int kRootHalf = 0x3f3504f3, kOne = 0x3f800000, kInfinity = 0x7f800000;
  static constexpr float kSmallest = 1.17549435e-38f;  // normal number
};
template <>
struct Format<double> {
  using Int = int64_t;
  static constexpr int kMantissa = 52, kLogTerms = 11;
  static constexpr Int kRootHalf = 0x3fe6a09e667f3bcd, kOne = 0x3ff0000000000000,
                       kInfinity = 0x7ff0000000000000;
  static constexpr double kSmallest = 2.2250738585072014e-308;
};

// k of x = 2^k m with m in [sqrt(1/2), sqrt(2)), x normal.
template <typename T>
JML_MATH typename Format<T>::Int log_exponent(T x) {
  using F = Format<T>;
  return (bit_cast<typename F::Int>(x) - F::kRootHalf) >> F::kMantissa;
}

// k log 2 + log(1 + f) for small f: log(1 + f) = 2 artanh(s) with s = f / (2 + f), |s| < 0.172, by
// its series in s^2.
template <typename T>
JML_MATH T log_sum(T k, T f) {
  constexpr int kTerms = Format<T>::kLogTerms;
  const T s = f / (2 + f), square = s * s;
  T series = T(1) / T(2 * kTerms - 1);
  for (int i = kTerms - 2; i >= 0; --i) series = series * square + T(1) / T(2 * i + 1);
  return k * T(0.69314718055994530942) + 2 * s * series;
}

// The logarithm of a normal positive number.
template <typename T>
JML_MATH T log_normal(T x) {
  using F = Format<T>;
  const auto k = log_exponent(x);
  return log_sum(T(k), bit_cast<T>(bit_cast<typename F::Int>(x) - (k << F::kMantissa)) - 1);
}

// log(1 + u) for u >= 0, with the digits that 1 + u loses: m - 1 = u 2^-k + (2^-k - 1). NaN stays
// NaN.
template <typename T>
JML_MATH T log1p_positive(T u) {
  using F = Format<T>;
  const auto k = log_exponent(1 + u);
  const T power = bit_cast<T>(F::kOne - (k << F::kMantissa));
  return log_sum(T(k), u * power + (power - 1));
}

// The logarithm of any number: -inf at 0, NaN below.
template <typename T>
JML_MATH T log_any(T x) {
  const T infinity = bit_cast<T>(Format<T>::kInfinity);
  const bool small = x < Format<T>::kSmallest;
  const T lift = T(30 * 0.69314718055994530942);  // makes a subnormal number normal
  const T log = log_normal(small ? x * T(1 << 30) : x) - (small ? lift : T(0));
  return x > 0 ? (x < infinity ? log : x) : x == 0 ? -infinity : infinity - infinity;
}

template <typename T>
JML_MATH T sigmoid(T z) {
  const T e = exp_nonpositive(z > 0 ? -z : z);
  return (z < 0 ? e : T(1)) / (T(1) + e);
}

// ---- target of integer labels ----------------------------------------------------------------
// y = (1 - epsilon) onehot + epsilon / L (section 2.4.1 of the paper) takes two values in a pixel.
// L counts the labels: C, or 2 in a binary task.
template <typename T>
struct LabelTarget {
  T at_label, elsewhere;
};

template <typename T>
JML_MATH LabelTarget<T> label_target(T epsilon, T labels) {
  return {T(1) - epsilon + epsilon / labels, epsilon / labels};
}

// ---- statistic terms -----------------------------------------------------------------------
// The non-negative parts of p and y themselves: differences of larger sums would cancel.
template <typename T>
struct OverlapTerms {
  T true_positive, false_positive, false_negative;
};

template <typename T>
JML_MATH OverlapTerms<T> overlap_terms(T p, T y) {
  const T common = p < y ? p : y;
  return {common, p - common, y - common};
}

// The gradient by p, see GradientCoefficients.
template <typename T>
JML_MATH T overlap_gradient(const GradientCoefficients<T>& coefficients, T p, T y) {
  const T side = (p < y ? coefficients.half_below : coefficients.half_above) +
                 (p > y ? coefficients.half_above : coefficients.half_below);
  return side + coefficients.of_target * y + coefficients.of_probability * p;
}

}  // namespace jml
