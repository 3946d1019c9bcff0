// Rows of numbers between the dtypes of tensors and those that the kernels compute in.
#pragma once

#include "vectors.h"

namespace jml::JML_ISA {

#if JML_VECTOR_BYTES >= 32
// Eight numbers at a time, with the instructions that float16 has and compilers do not find.
template <typename Source>
JML_MATH __m256 load_eight(const Source* from) {
  if constexpr (std::is_same_v<Source, float>) {
    return _mm256_loadu_ps(from);
  } else if constexpr (std::is_same_v<Source, half_bits>) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)from));
  } else if constexpr (std::is_same_v<Source, bfloat_bits>) {
    const __m256i bits = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)from));
    return _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16));
  } else {
    alignas(32) float numbers[8];
    for (int i = 0; i < 8; ++i) numbers[i] = float(from[i]);
    return _mm256_load_ps(numbers);
  }
}

// To one of the dtypes of a gradient.
template <typename Target>
JML_MATH void store_eight(__m256 numbers, Target* to) {
  if constexpr (std::is_same_v<Target, float>) {
    _mm256_storeu_ps(to, numbers);
  } else if constexpr (std::is_same_v<Target, half_bits>) {
    _mm_storeu_si128((__m128i*)to, _mm256_cvtps_ph(numbers, 0));
  } else {  // to_bfloat
    const __m256i bits = _mm256_castps_si256(numbers);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i half = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
    const __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(bits, half), 16);
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(numbers, numbers, _CMP_UNORD_Q));
    const __m256i all = _mm256_blendv_epi8(rounded, _mm256_set1_epi32(0x7fc0), nan);
    _mm_storeu_si128((__m128i*)to, _mm_packus_epi32(_mm256_castsi256_si128(all),
                                                    _mm256_extracti128_si256(all, 1)));
  }
}
#endif

// Contiguous rows.
template <typename T, typename Source>
JML_MATH void convert_row(const Source* __restrict from, int count, T* __restrict to) {
  int i = 0;
#if JML_VECTOR_BYTES >= 32
  if constexpr (std::is_same_v<Source, half_bits> && std::is_same_v<T, float>)
    for (; i + 8 <= count; i += 8) _mm256_storeu_ps(to + i, load_eight(from + i));
#endif
  for (; i < count; ++i) to[i] = convert<T>(from[i]);
}

template <typename T, typename Target>
JML_MATH void convert_row_back(const T* __restrict from, int count, Target* __restrict to) {
  int i = 0;
#if JML_VECTOR_BYTES >= 32
  if constexpr (std::is_same_v<Target, half_bits> && std::is_same_v<T, float>)
    for (; i + 8 <= count; i += 8) store_eight(_mm256_loadu_ps(from + i), to + i);
#endif
  for (; i < count; ++i) to[i] = convert_back<Target>(from[i]);
}

}  // namespace jml::JML_ISA
