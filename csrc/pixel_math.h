// The mathematics of one pixel, for host and device: exponential, target rule, statistic terms,
// gradient rule. Scalar, branch-free where it is hot: the CPU's loops over pixels vectorise it,
// a GPU thread runs it. x is a probability, y its target.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#define JML_MATH __host__ __device__ __forceinline__
#else
#define JML_MATH inline __attribute__((always_inline))
#endif

namespace jml {

template <typename To, typename From>
JML_MATH To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy(&to, &from, sizeof(To));
  return to;
}

// ---- exponential of x <= 0 -----------------------------------------------------------------
// e^x = 2^n 2^f with n the nearest integer to x log2(e). Adding 1.5 * 2^(mantissa bits) rounds
// and leaves n in the low bits. 2^n is a float made from n, and a factor, so that NaN stays NaN.
// Below the smallest normal number the result is 0; -inf gives 0.

// 2^f on [-1/2, 1/2]: a minimax polynomial with error 9.1e-8 and value 1 at 0.
template <typename F>
JML_MATH F exp2_fraction(F f) {
  F p = f * 0.001326472731307149f + 0.009671512991189957f;
  p = p * f + 0.05550733581185341f;
  p = p * f + 0.24022242426872253f;
  p = p * f + 0.6931470036506653f;
  return p * f + 1.0f;
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
  F p = r * (1.0 / 6227020800.0) + 1.0 / 479001600.0;
  p = p * r + 1.0 / 39916800.0;
  p = p * r + 1.0 / 3628800.0;
  p = p * r + 1.0 / 362880.0;
  p = p * r + 1.0 / 40320.0;
  p = p * r + 1.0 / 5040.0;
  p = p * r + 1.0 / 720.0;
  p = p * r + 1.0 / 120.0;
  p = p * r + 1.0 / 24.0;
  p = p * r + 1.0 / 6.0;
  p = p * r + 0.5;
  p = p * r + 1.0;
  p = p * r + 1.0;
  const F power = bit_cast<F>((bit_cast<Bits>(shifted) << 52) + (uint64_t{1023} << 52));
  return x < -708.0 ? F{} : p * power;
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

// Of a normal positive number.
template <typename T>
JML_MATH T log_normal(T x) {
  using F = Format<T>;
  const auto k = log_exponent(x);
  return log_sum(T(k), bit_cast<T>(bit_cast<typename F::Int>(x) - (k << F::kMantissa)) - 1);
}

// log(1 + u) for u >= 0, with the digits that 1 + u loses: m - 1 = u 2^-k + (2^-k - 1). NaN stays.
template <typename T>
JML_MATH T log1p_positive(T u) {
  using F = Format<T>;
  const auto k = log_exponent(1 + u);
  const T power = bit_cast<T>(F::kOne - (k << F::kMantissa));
  return log_sum(T(k), u * power + (power - 1));
}

// Of any number, as a logarithm is: -inf at 0, NaN below.
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

// ---- target rule of integer labels ---------------------------------------------------------
// y = (1 - e) onehot + e / L (section 2.4.1) takes two values in a pixel: `on` at the label,
// `off` elsewhere. L counts the labels: C, or 2 in a binary task.
template <typename T>
struct LabelTarget {
  T on, off;
};

template <typename T>
JML_MATH LabelTarget<T> label_target(T epsilon, T labels) {
  return {T(1) - epsilon + epsilon / labels, epsilon / labels};
}

// ---- statistic terms -----------------------------------------------------------------------
// The four non-negative parts of x and y themselves: differences of larger sums would cancel.
template <typename T>
struct Overlap {
  T true_positive, false_positive, false_negative;
};

template <typename T>
JML_MATH Overlap<T> overlap(T x, T y) {
  const T common = x < y ? x : y;
  return {common, x - common, y - common};
}

// A maximum that NaN enters and does not leave.
template <typename T>
JML_MATH T max_or_nan(T a, T b) {
  return ((b > a) | (b != b)) ? b : a;
}

// ---- gradient rule -------------------------------------------------------------------------
// With G the gradient of the sums, g_c = sum over them of G * d(sum)/dx_c is
//     g = a + b sign(x - y) + c y + d x,
// from d min(x,y) = (1 - s)/2, d max(x-y,0) = (1 + s)/2, d max(y-x,0) = (s - 1)/2 with
// s = sign(x - y), 0 at x = y; d(xy) = y; d(x^2) = 2x.
template <typename T>
struct GradientRule {
  T a, b, c, d;
};

template <typename T>
JML_MATH GradientRule<T> gradient_rule(T tp, T fp, T fn, T intersection, T squared) {
  return {(tp + fp - fn) / 2, (fp + fn - tp) / 2, intersection, 2 * squared};
}

template <typename T>
JML_MATH T gradient(const GradientRule<T>& rule, T x, T y) {
  const T sign = T((x > y) - (x < y));
  return rule.a + rule.b * sign + rule.c * y + rule.d * x;
}

// Softmax: dL/dz_c = x_c (g_c - sum_j x_j g_j)
template <typename T>
JML_MATH T softmax_gradient(T x, T g, T dot) {
  return x * (g - dot);
}

// Sigmoid: dL/dz = g x (1 - x)
template <typename T>
JML_MATH T sigmoid_gradient(T x, T g) {
  return g * x * (1 - x);
}

// ---- half types ----------------------------------------------------------------------------
// Bits to float and back, rounding to nearest even. A GPU has instructions for these.
struct half_bits {
  uint16_t bits;
};
struct bfloat_bits {
  uint16_t bits;
};

JML_MATH float to_float(bfloat_bits value) { return bit_cast<float>(uint32_t(value.bits) << 16); }

JML_MATH float to_float(half_bits value) {
#if defined(__CUDA_ARCH__)
  return __half2float(__ushort_as_half(value.bits));
#else
  const uint32_t magnitude = uint32_t(value.bits & 0x7fff) << 13;
  // 2^112 moves the exponent's bias, subnormal numbers included; inf and NaN have exponent 31.
  const uint32_t finite = bit_cast<uint32_t>(bit_cast<float>(magnitude) * 5.192296858534828e33f);
  const uint32_t result = magnitude >= 0x0f800000u ? magnitude | 0x7f800000u : finite;
  return bit_cast<float>(result | uint32_t(value.bits & 0x8000) << 16);
#endif
}

JML_MATH bfloat_bits to_bfloat(float value) {
#if defined(__CUDA_ARCH__)
  return {__bfloat16_as_ushort(__float2bfloat16_rn(value))};
#else
  const uint32_t bits = bit_cast<uint32_t>(value);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return {uint16_t(value != value ? 0x7fc0u : rounded)};
#endif
}

JML_MATH half_bits to_half(float value) {
#if defined(__CUDA_ARCH__)
  return {__half_as_ushort(__float2half_rn(value))};
#else
  const uint32_t bits = bit_cast<uint32_t>(value);
  const uint32_t magnitude = bits & 0x7fffffffu;
  const uint32_t special = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
  // Adding 1/2 aligns a number below 2^-14 so that the low bits are its subnormal mantissa.
  const uint32_t subnormal = bit_cast<uint32_t>(bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
  const uint32_t normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  const uint32_t finite = magnitude < 0x38800000u ? subnormal : normal;
  const uint32_t result = magnitude >= 0x47800000u ? special : finite;
  return {uint16_t(result | (bits >> 16 & 0x8000u))};
#endif
}


// Between the dtypes of tensors and those that kernels compute in.
template <typename T, typename Source>
JML_MATH T convert(Source value) {
  if constexpr (std::is_same_v<Source, half_bits> || std::is_same_v<Source, bfloat_bits>)
    return T(to_float(value));
  else
    return T(value);
}

template <typename Target, typename T>
JML_MATH Target convert_back(T value) {
  if constexpr (std::is_same_v<Target, half_bits>)
    return to_half(float(value));
  else if constexpr (std::is_same_v<Target, bfloat_bits>)
    return to_bfloat(float(value));
  else
    return Target(value);
}

}  // namespace jml
