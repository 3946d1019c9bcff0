// float16 for the emulation: its bits, and the conversions. No arithmetic: the kernels compute in
// float.
#pragma once

#include "cuda_runtime.h"

struct alignas(2) __half {
  unsigned short bits;
};
struct alignas(4) __half2 {
  __half x, y;
};
template <>
struct jml_cuda_loadable<__half> : std::true_type {};
template <>
struct jml_cuda_loadable<__half2> : std::true_type {};

inline __half __ushort_as_half(unsigned short bits) { return {bits}; }
inline unsigned short __half_as_ushort(__half value) { return value.bits; }

inline float __half2float(__half value) {
  const unsigned sign = unsigned(value.bits & 0x8000) << 16;
  const unsigned exponent = value.bits >> 10 & 31, fraction = value.bits & 1023;
  if (exponent == 31) return __uint_as_float(sign | 0x7f800000 | fraction << 13);
  const float magnitude = exponent == 0
                              ? float(fraction) * 0x1p-24f  // subnormal, or zero
                              : __uint_as_float((exponent + 112) << 23 | fraction << 13);
  return sign ? -magnitude : magnitude;
}

// To the nearest, of two as near the even one. NaN becomes the one NaN of the GPU.
inline __half __float2half_rn(float value) {
  const unsigned bits = __float_as_uint(value), magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return {0x7fff};
  const unsigned short sign = bits >> 16 & 0x8000;
  // From 65520 on the nearest number would be 2^16.
  if (magnitude >= 0x477ff000) return {static_cast<unsigned short>(sign | 0x7c00)};
  if (magnitude < 0x38800000) {  // below 2^-14: a multiple of 2^-24, exactly scaled
    const float multiple = rintf(__uint_as_float(magnitude) * 0x1p24f);
    return {static_cast<unsigned short>(sign | unsigned(multiple))};
  }
  const unsigned odd = magnitude >> 13 & 1;
  const unsigned rounded = (magnitude - (112u << 23) + 0xfff + odd) >> 13;
  return {static_cast<unsigned short>(sign | rounded)};
}

inline __half __float2half(float value) { return __float2half_rn(value); }
inline __half2 __floats2half2_rn(float x, float y) {
  return {__float2half_rn(x), __float2half_rn(y)};
}
inline __half2 __float22half2_rn(float2 value) { return __floats2half2_rn(value.x, value.y); }
inline float2 __half22float2(__half2 value) {
  return {__half2float(value.x), __half2float(value.y)};
}
