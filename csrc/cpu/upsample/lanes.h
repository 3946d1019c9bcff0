// Masks of lanes of float vectors: what the instruction sets do differently.
#pragma once

#include "../vectors.h"

namespace jml::JML_ISA {

typedef Vector<float> Lanes;
typedef Vector<int32_t> IntLanes;
constexpr int kLanes = kWidth<float>;

#if JML_VECTOR_BYTES == 64

typedef __mmask16 LaneMask;

JML_MATH LaneMask equal(IntLanes a, int32_t b) {
  return _mm512_cmpeq_epi32_mask((__m512i)a, _mm512_set1_epi32(b));
}
JML_MATH LaneMask at_least_0(IntLanes a) {
  return _mm512_cmpge_epi32_mask((__m512i)a, _mm512_setzero_si512());
}
JML_MATH LaneMask greater(Lanes a, Lanes b) {
  return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GT_OQ);
}
JML_MATH LaneMask inverted(LaneMask a) { return LaneMask(~a); }
JML_MATH Lanes select(LaneMask mask, Lanes yes, Lanes no) {
  return (Lanes)_mm512_mask_blend_ps(mask, (__m512)no, (__m512)yes);
}
// a + b where the mask says so, else a.
JML_MATH Lanes add_where(LaneMask mask, Lanes a, Lanes b) {
  return (Lanes)_mm512_mask_add_ps((__m512)a, mask, (__m512)a, (__m512)b);
}
JML_MATH bool any(LaneMask mask) { return mask != 0; }
constexpr LaneMask kNoLanes = 0;
JML_MATH Lanes smaller(Lanes a, Lanes b) { return (Lanes)_mm512_min_ps((__m512)a, (__m512)b); }

#else

typedef IntLanes LaneMask;  // -1 or 0

JML_MATH LaneMask equal(IntLanes a, int32_t b) { return a == b; }
JML_MATH LaneMask at_least_0(IntLanes a) { return a >= 0; }
JML_MATH LaneMask greater(Lanes a, Lanes b) { return (LaneMask)(a > b); }
JML_MATH LaneMask inverted(LaneMask a) { return ~a; }
JML_MATH Lanes select(LaneMask mask, Lanes yes, Lanes no) { return mask ? yes : no; }
JML_MATH Lanes add_where(LaneMask mask, Lanes a, Lanes b) { return a + (Lanes)(mask & (IntLanes)b); }
JML_MATH bool any(LaneMask mask) {
#if JML_VECTOR_BYTES == 32
  return _mm256_movemask_ps((__m256)mask) != 0;
#else
  typedef int64_t Halves __attribute__((vector_size(kVectorBytes)));
  const Halves halves = (Halves)mask;
  return (halves[0] | halves[1]) != 0;
#endif
}
constexpr LaneMask kNoLanes = {};
JML_MATH Lanes smaller(Lanes a, Lanes b) { return a < b ? a : b; }

#endif

// 2^z for z <= 127, with an error of 1e-7 at most: a power of q multiplies that of q.
JML_MATH Lanes exp2_lanes(Lanes z) {
#if JML_VECTOR_BYTES == 64
  const auto n = (Lanes)_mm512_roundscale_ps((__m512)z, 8);
#else
  const Lanes shifted = z + 12582912.0f, n = shifted - 12582912.0f;
#endif
  const Lanes f = z - n;
  Lanes sum = f * 1.535337116e-04f + 1.339887403e-03f;
  sum = sum * f + 9.618437325e-03f;
  sum = sum * f + 5.550332473e-02f;
  sum = sum * f + 2.402264791e-01f;
  sum = sum * f + 6.931472029e-01f;
  sum = sum * f + 1.0f;
#if JML_VECTOR_BYTES == 64
  return (Lanes)_mm512_scalef_ps((__m512)sum, (__m512)n);
#else
  typedef Vector<uint32_t> Words;
  const auto power = (Lanes)(((Words)shifted << 23) + (127u << 23));
  return z < -126.0f ? Lanes{} : sum * power;
#endif
}

// log(1 + u) for u >= 0, see log1p_positive.
JML_MATH Lanes log1p_lanes(Lanes u) {
  using F = Format<float>;
  const IntLanes k = ((IntLanes)(u + 1.0f) - F::kRootHalf) >> F::kMantissa;
  const auto power = (Lanes)(F::kOne - (k << F::kMantissa));
  const Lanes f = u * power + (power - 1.0f), s = f / (f + 2.0f), square = s * s;
  Lanes series = Lanes{} + 1.0f / (2 * F::kLogTerms - 1);
  for (int i = F::kLogTerms - 2; i >= 0; --i) series = series * square + 1.0f / (2 * i + 1);
  return __builtin_convertvector(k, Lanes) * 0.69314718f + 2.0f * s * series;
}

}  // namespace jml::JML_ISA
