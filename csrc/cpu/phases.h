// Every second, fourth or eighth number of a row as vectors: shuffles that compilers do not find.
#pragma once

#include "vectors.h"

namespace jml::JML_ISA {

// The numbers at even places of a and b, one behind the other; with kOdd those at odd places.
template <bool kOdd, typename T>
JML_MATH Vector<T> every_second(Vector<T> a, Vector<T> b) {
#if JML_VECTOR_BYTES >= 32
  if constexpr (std::is_same_v<T, float>) {
#if JML_VECTOR_BYTES == 64
    const __m512i pairs = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    const __m512i places = _mm512_add_epi32(pairs, _mm512_set1_epi32(kOdd));
    return (Vector<T>)_mm512_permutex2var_ps((__m512)a, places, (__m512)b);
#else
    const __m256 halves = _mm256_shuffle_ps((__m256)a, (__m256)b, kOdd ? 0xdd : 0x88);
    return (Vector<T>)_mm256_permute4x64_pd(_mm256_castps_pd(halves), 0xd8);
#endif
  }
#endif
  Vector<T> result;
  for (int i = 0; i < kWidth<T> / 2; ++i) {
    result[i] = a[2 * i + kOdd];
    result[i + kWidth<T> / 2] = b[2 * i + kOdd];
  }
  return result;
}

// kCount vectors of a row become its kCount phases, a power of two: phase i has the numbers at
// places i, i + kCount, ...
template <int kCount, typename T>
JML_MATH void split_phases(Vector<T>* row) {
  if constexpr (kCount > 1) {
    constexpr int kHalf = kCount / 2;
    Vector<T> even[kHalf], odd[kHalf];
    for (int i = 0; i < kHalf; ++i) {
      even[i] = every_second<false, T>(row[2 * i], row[2 * i + 1]);
      odd[i] = every_second<true, T>(row[2 * i], row[2 * i + 1]);
    }
    split_phases<kHalf, T>(even);
    split_phases<kHalf, T>(odd);
    for (int i = 0; i < kHalf; ++i) {
      row[2 * i] = even[i];
      row[2 * i + 1] = odd[i];
    }
  }
}

// The numbers of a vector one place further on, after the last one of the vector before.
template <typename T>
JML_MATH Vector<T> moved_on(Vector<T> before, Vector<T> vector) {
#if JML_VECTOR_BYTES == 64
  if constexpr (std::is_same_v<T, float>)
    return (Vector<T>)_mm512_alignr_epi32((__m512i)vector, (__m512i)before, kWidth<T> - 1);
#elif JML_VECTOR_BYTES == 32
  if constexpr (std::is_same_v<T, float>) {
    const __m256i between = _mm256_permute2x128_si256((__m256i)before, (__m256i)vector, 0x21);
    return (Vector<T>)_mm256_alignr_epi8((__m256i)vector, between, 12);
  }
#endif
  Vector<T> result;
  result[0] = before[kWidth<T> - 1];
  for (int i = 1; i < kWidth<T>; ++i) result[i] = vector[i - 1];
  return result;
}

}  // namespace jml::JML_ISA
