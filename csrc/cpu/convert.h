// Numbers between the dtypes of tensors and those that the kernels compute in: rows as they lie,
// and pixels whose classes lie side by side (channels_last), which are transposed on the way.
#pragma once

#include <algorithm>

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

// The same back to one of the dtypes of a gradient.
template <typename Target>
JML_MATH void store_eight(__m256 numbers, Target* to) {
  if constexpr (std::is_same_v<Target, float>) {
    _mm256_storeu_ps(to, numbers);
  } else if constexpr (std::is_same_v<Target, half_bits>) {
    _mm_storeu_si128((__m128i*)to, _mm256_cvtps_ph(numbers, 0));
  } else {  // as to_bfloat rounds
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

// ---- contiguous rows -----------------------------------------------------------------------

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

// ---- transposition -------------------------------------------------------------------------

constexpr int kSquare = 8;

// Whether there are instructions that transpose kSquare x kSquare numbers at once.
template <typename T>
constexpr bool kTransposesSquares = JML_VECTOR_BYTES >= 32 && std::is_same_v<T, float>;

// to[j * to_stride + i] = from[i * from_stride + j]
template <typename Source, typename Target>
JML_MATH void transpose_square(const Source* from, int64_t from_stride, Target* to,
                               int64_t to_stride) {
#if JML_VECTOR_BYTES >= 32
  __m256 row[kSquare], pairs[kSquare], fours[kSquare];
  for (int i = 0; i < kSquare; ++i) row[i] = load_eight(from + i * from_stride);
  for (int i = 0; i < kSquare; i += 2) {
    pairs[i] = _mm256_unpacklo_ps(row[i], row[i + 1]);
    pairs[i + 1] = _mm256_unpackhi_ps(row[i], row[i + 1]);
  }
  for (int i = 0; i < kSquare; i += 4)
    for (int j = 0; j < 2; ++j) {
      fours[i + 2 * j] = _mm256_shuffle_ps(pairs[i + j], pairs[i + j + 2], 0x44);
      fours[i + 2 * j + 1] = _mm256_shuffle_ps(pairs[i + j], pairs[i + j + 2], 0xee);
    }
  for (int i = 0; i < 4; ++i) {
    store_eight(_mm256_permute2f128_ps(fours[i], fours[i + 4], 0x20), to + i * to_stride);
    store_eight(_mm256_permute2f128_ps(fours[i], fours[i + 4], 0x31), to + (i + 4) * to_stride);
  }
#endif
}

// Calls square(first pixel, first class) for squares that cover pixels x classes, both at least
// kSquare: the last ones of a row or column overlap those before.
template <typename Square>
JML_MATH void for_squares(int pixels, int64_t classes, Square square) {
  for (int i = 0; i < pixels; i += kSquare)
    for (int64_t c = 0; c < classes; c += kSquare)
      square(std::min(i, pixels - kSquare), std::min(c, classes - kSquare));
}

// Pixels to the rows of a tile: tile[c * stride + i] = from[i * pixel_step + c]
template <typename T, typename Source>
void transpose_to_rows(const Source* from, int64_t pixel_step, int pixels, int64_t classes, T* tile,
                       int64_t stride) {
  if constexpr (kTransposesSquares<T>)
    if (pixels >= kSquare && classes >= kSquare)
      return for_squares(pixels, classes, [&](int i, int64_t c) __attribute__((always_inline)) {
        transpose_square(from + i * pixel_step + c, pixel_step, tile + c * stride + i, stride);
      });
  // A block of pixels at a time, so that reads and writes both stay within a few cache lines.
  constexpr int kPixels = 64 / int(sizeof(T));
  for (int first = 0; first < pixels; first += kPixels) {
    const int count = std::min(kPixels, pixels - first);
    const Source* block = from + first * pixel_step;
    for (int64_t c = 0; c < classes; ++c)
      for (int i = 0; i < count; ++i)
        tile[c * stride + first + i] = convert<T>(block[i * pixel_step + c]);
  }
}

// And back: to[i * pixel_step + c] = tile[c * stride + i]
template <typename T, typename Target>
void transpose_from_rows(const T* tile, int64_t stride, int pixels, int64_t classes, Target* to,
                         int64_t pixel_step) {
  if constexpr (kTransposesSquares<T> && !std::is_integral_v<Target> && sizeof(Target) <= sizeof(T))
    if (pixels >= kSquare && classes >= kSquare)
      return for_squares(pixels, classes, [&](int i, int64_t c) __attribute__((always_inline)) {
        transpose_square(tile + c * stride + i, stride, to + i * pixel_step + c, pixel_step);
      });
  constexpr int kPixels = 64 / int(sizeof(T));
  for (int first = 0; first < pixels; first += kPixels) {
    const int count = std::min(kPixels, pixels - first);
    Target* block = to + first * pixel_step;
    for (int i = 0; i < count; ++i)
      for (int64_t c = 0; c < classes; ++c)
        block[i * pixel_step + c] = convert_back<Target>(tile[c * stride + first + i]);
  }
}

}  // namespace jml::JML_ISA
