// The mathematics of one pixel that the CPU and the CUDA kernels share: both call all of it.
//
//     bit_cast, max_or_nan     what the language lacks
//     is_probability           whether a number may be one
//     is_ignored_target        whether an element of a target counts
//     GradientCoefficients     how the gradients of the sums act on a probability
//     softmax_gradient,
//     sigmoid_gradient         from there through the activation to the logit
//     half_bits, bfloat_bits,
//     convert, convert_back    the dtypes of tensors, and those that kernels compute in
//
// Exponentials, logarithms and what is made of them are not here, because a GPU has instructions
// for them while the CPU needs polynomials that vectorise (cpu/elementary.h). Nor are the terms of
// the statistics: the CUDA kernels take them from the gap y - p, which at the label has more digits
// than the difference of its two sides. p is a probability, y its target.
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

// The larger of two numbers. A NaN on either side is the result.
template <typename T>
JML_MATH T max_or_nan(T a, T b) {
  return ((b > a) | (b != b)) ? b : a;
}

// Whether a number lies in [0, 1], up to rounding (jml_kernels/checks.py); NaN does not.
template <typename T>
JML_MATH bool is_probability(T value) {
  const T distance = value < T(0.5) ? T(0.5) - value : value - T(0.5);
  return distance <= T(0.500001);
}

// What is no more than this is a probability, if it is not negative: positive numbers have smaller
// bits than negative ones and NaN, so that the largest bits of many tell of all of them.
constexpr double kSurelyProbability = 1.0000009;

template <typename T>
using Bits = std::conditional_t<sizeof(T) == sizeof(double), uint64_t, uint32_t>;

// An ignored element has the target -0, which adds to sums what 0 does, and only tells the kernels
// to leave out its p. The targets of others are never -0 where anything is ignored.
template <typename T>
JML_MATH bool is_ignored_target(T target) {
  return bit_cast<Bits<T>>(target) == bit_cast<Bits<T>>(T(-0.0));
}

// ---- gradient by a probability -------------------------------------------------------------
// Let G be the gradient of the loss by each sum. The gradient by a probability, which is
// g = sum over the sums of G * d(sum)/dp, is then made of four numbers,
//     g = side + of_target y + of_probability p,
// where side is that of max(p - y, 0) above the target, p > y, and that of min(p, y) less that of
// max(y - p, 0) below it, p < y. At p = y it is the mean of both, the sub-gradient 0 of |p - y|. The
// derivatives of p y and p^2 are y and 2 p.
//
// The sides are kept apart, because one may be a thousand times the other, and has to keep its
// digits beside it. They are kept as halves, of which a kernel adds two: those of p >= y and of
// p > y. At p = y these are one of each.
template <typename T>
struct GradientCoefficients {
  T half_above, half_below, of_target, of_probability;
};

template <typename T>
JML_MATH GradientCoefficients<T> gradient_coefficients(double tp, double fp, double fn,
                                                       double intersection,
                                                       double prediction_squared) {
  return {T(fp / 2), T((tp - fn) / 2), T(intersection), T(2 * prediction_squared)};
}

// The gradient by a logit under a softmax: p_c (g_c - dot), where dot = sum_j p_j g_j.
template <typename T>
JML_MATH T softmax_gradient(T p, T g, T dot) {
  return p * (g - dot);
}

// The gradient by a logit under a sigmoid: g p (1 - p). p_not is 1 - p, of which a caller may know
// more digits than the subtraction gives.
template <typename T>
JML_MATH T sigmoid_gradient(T p, T p_not, T g) {
  return g * p * p_not;
}

// ---- half types ----------------------------------------------------------------------------
// These convert the bits of a half type to float and back, rounding to nearest even. A GPU has
// instructions for them.
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
  // Multiplying by 2^112 moves the exponent's bias, for subnormal numbers too. Infinity and NaN,
  // whose exponent is 31, take the other way.
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

// From the dtype of a tensor to the type that a kernel computes in, and back.
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
