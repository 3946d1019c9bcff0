// Functions of numbers that device code has and the host's <math.h> lacks. What is approximate on
// a GPU is exact to rounding here.
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "report.h"

namespace jml_cuda_emulation {

template <typename To, typename From>
inline To bits_of(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy(&to, &from, sizeof(To));
  return to;
}

// Beyond the range the nearest number, 0 for NaN: as the GPU's conversions are.
template <typename To, typename From>
inline To saturate(From rounded) {
  constexpr To lowest = To(To(-1) < To(0) ? To(1) << (8 * sizeof(To) - 1) : 0);
  constexpr To highest = To(~lowest);
  if (!(rounded == rounded)) return 0;
  if (rounded <= From(lowest)) return lowest;
  if (rounded >= From(highest)) return highest;
  return To(rounded);
}

}  // namespace jml_cuda_emulation

// ---- bits ----------------------------------------------------------------------------------
inline int __float_as_int(float x) { return jml_cuda_emulation::bits_of<int>(x); }
inline unsigned __float_as_uint(float x) { return jml_cuda_emulation::bits_of<unsigned>(x); }
inline float __int_as_float(int x) { return jml_cuda_emulation::bits_of<float>(x); }
inline float __uint_as_float(unsigned x) { return jml_cuda_emulation::bits_of<float>(x); }
inline long long __double_as_longlong(double x) {
  return jml_cuda_emulation::bits_of<long long>(x);
}
inline double __longlong_as_double(long long x) { return jml_cuda_emulation::bits_of<double>(x); }

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(unsigned(x)); }
inline int __clzll(long long x) {
  return x == 0 ? 64 : __builtin_clzll(static_cast<unsigned long long>(x));
}
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline unsigned __brev(unsigned x) {
  unsigned reversed = 0;
  for (int i = 0; i < 32; ++i) reversed |= (x >> i & 1) << (31 - i);
  return reversed;
}
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
  const uint64_t bytes = uint64_t{y} << 32 | x;
  unsigned result = 0;
  for (int i = 0; i < 4; ++i) {
    const unsigned choice = selector >> 4 * i;
    unsigned byte = unsigned(bytes >> 8 * (choice & 7)) & 0xff;
    if (choice & 8) byte = byte & 0x80 ? 0xff : 0;  // the sign alone
    result |= byte << 8 * i;
  }
  return result;
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  return unsigned(((uint64_t{high} << 32 | low) << (shift & 31)) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return unsigned((uint64_t{high} << 32 | low) >> (shift & 31));
}

// ---- integers ------------------------------------------------------------------------------
inline int __mulhi(int a, int b) { return int(int64_t{a} * b >> 32); }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned(uint64_t{a} * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  __extension__ using Wide = unsigned __int128;
  return static_cast<unsigned long long>(Wide{a} * b >> 64);
}

// As CUDA resolves them: for numbers of unlike signs the unsigned one decides.
#define JML_MIN_MAX(type, a_type, b_type)                       \
  inline type min(a_type first, b_type second) {                \
    const type a = static_cast<type>(first), b = static_cast<type>(second);               \
    return b < a ? b : a;                                       \
  }                                                             \
  inline type max(a_type first, b_type second) {                \
    const type a = static_cast<type>(first), b = static_cast<type>(second);               \
    return a < b ? b : a;                                       \
  }
JML_MIN_MAX(int, int, int)
JML_MIN_MAX(unsigned, unsigned, unsigned)
JML_MIN_MAX(unsigned, int, unsigned)
JML_MIN_MAX(unsigned, unsigned, int)
JML_MIN_MAX(long, long, long)
JML_MIN_MAX(unsigned long, unsigned long, unsigned long)
JML_MIN_MAX(unsigned long, long, unsigned long)
JML_MIN_MAX(unsigned long, unsigned long, long)
JML_MIN_MAX(long long, long long, long long)
JML_MIN_MAX(unsigned long long, unsigned long long, unsigned long long)
JML_MIN_MAX(unsigned long long, long long, unsigned long long)
JML_MIN_MAX(unsigned long long, unsigned long long, long long)
#undef JML_MIN_MAX

inline unsigned umin(unsigned a, unsigned b) { return min(a, b); }
inline unsigned umax(unsigned a, unsigned b) { return max(a, b); }
inline long long llmin(long long a, long long b) { return min(a, b); }
inline long long llmax(long long a, long long b) { return max(a, b); }
inline unsigned long long ullmin(unsigned long long a, unsigned long long b) { return min(a, b); }
inline unsigned long long ullmax(unsigned long long a, unsigned long long b) { return max(a, b); }

// ---- floating point ------------------------------------------------------------------------
// Of a number and NaN, the number.
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }
inline double min(float a, double b) { return fmin(a, b); }
inline double max(float a, double b) { return fmax(a, b); }
inline double min(double a, float b) { return fmin(a, b); }
inline double max(double a, float b) { return fmax(a, b); }

inline float rsqrtf(float x) { return float(1.0 / ::sqrt(double(x))); }
inline double rsqrt(double x) { return 1.0 / ::sqrt(x); }
inline float __saturatef(float x) { return x > 0 ? fminf(x, 1) : 0; }
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float x) { return 1 / x; }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __frsqrt_rn(float x) { return rsqrtf(x); }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __drcp_rn(double x) { return 1 / x; }
inline double __dsqrt_rn(double x) { return ::sqrt(x); }
inline double __fma_rn(double a, double b, double c) { return ::fma(a, b, c); }

inline int __float2int_rn(float x) { return jml_cuda_emulation::saturate<int>(rintf(x)); }
inline int __float2int_rz(float x) { return jml_cuda_emulation::saturate<int>(truncf(x)); }
inline int __float2int_rd(float x) { return jml_cuda_emulation::saturate<int>(floorf(x)); }
inline int __float2int_ru(float x) { return jml_cuda_emulation::saturate<int>(ceilf(x)); }
inline unsigned __float2uint_rn(float x) {
  return jml_cuda_emulation::saturate<unsigned>(rintf(x));
}
inline unsigned __float2uint_rz(float x) {
  return jml_cuda_emulation::saturate<unsigned>(truncf(x));
}
inline int __double2int_rn(double x) { return jml_cuda_emulation::saturate<int>(::rint(x)); }
inline long long __double2ll_rn(double x) {
  return jml_cuda_emulation::saturate<long long>(::rint(x));
}
inline float __int2float_rn(int x) { return float(x); }
inline float __uint2float_rn(unsigned x) { return float(x); }
inline float __double2float_rn(double x) { return float(x); }

// glibc keeps some of these names for itself, hence macros.
namespace jml_cuda_emulation {
inline float exp_fast(float x) { return expf(x); }
inline float exp10_fast(float x) { return float(::pow(10.0, double(x))); }
inline float log_fast(float x) { return logf(x); }
inline float log2_fast(float x) { return log2f(x); }
inline float log10_fast(float x) { return log10f(x); }
inline float pow_fast(float x, float y) { return powf(x, y); }
}  // namespace jml_cuda_emulation
#define __expf(x) jml_cuda_emulation::exp_fast(x)
#define __exp10f(x) jml_cuda_emulation::exp10_fast(x)
#define __logf(x) jml_cuda_emulation::log_fast(x)
#define __log2f(x) jml_cuda_emulation::log2_fast(x)
#define __log10f(x) jml_cuda_emulation::log10_fast(x)
#define __powf(x, y) jml_cuda_emulation::pow_fast(x, y)

inline void __trap() { jml_cuda_emulation::fail("a thread called __trap"); }
