// Pixels whose classes lie side by side (channels_last) to rows of a tile, and back.
#pragma once

#include "convert.h"

namespace jml::JML_ISA {

constexpr int kSquare = 8;

// Whether there are instructions to turn kSquare x kSquare numbers at once.
template <typename T>
constexpr bool kTurnsSquares = JML_VECTOR_BYTES >= 32 && std::is_same_v<T, float>;

// to[j * to_stride + i] = from[i * from_stride + j]
template <typename Source, typename Target>
JML_MATH void turn_square(const Source* from, int64_t from_stride, Target* to,
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

// tile[c * stride + i] = from[i * step + c]
template <typename T, typename Source>
void turn_in(const Source* from, int64_t step, int pixels, int64_t classes, T* tile,
             int64_t stride) {
  if constexpr (kTurnsSquares<T>)
    if (pixels >= kSquare && classes >= kSquare)
      return for_squares(pixels, classes, [&](int i, int64_t c) __attribute__((always_inline)) {
        turn_square(from + i * step + c, step, tile + c * stride + i, stride);
      });
  // A block of pixels at a time, so that reads and writes both stay within a few cache lines.
  constexpr int kPixels = 64 / int(sizeof(T));
  for (int first = 0; first < pixels; first += kPixels) {
    const int count = std::min(kPixels, pixels - first);
    const Source* block = from + first * step;
    for (int64_t c = 0; c < classes; ++c)
      for (int i = 0; i < count; ++i)
        tile[c * stride + first + i] = convert<T>(block[i * step + c]);
  }
}

// to[i * step + c] = tile[c * stride + i]
template <typename T, typename Target>
void turn_out(const T* tile, int64_t stride, int pixels, int64_t classes, Target* to,
              int64_t step) {
  if constexpr (kTurnsSquares<T> && !std::is_integral_v<Target> && sizeof(Target) <= sizeof(T))
    if (pixels >= kSquare && classes >= kSquare)
      return for_squares(pixels, classes, [&](int i, int64_t c) __attribute__((always_inline)) {
        turn_square(tile + c * stride + i, stride, to + i * step + c, step);
      });
  constexpr int kPixels = 64 / int(sizeof(T));
  for (int first = 0; first < pixels; first += kPixels) {
    const int count = std::min(kPixels, pixels - first);
    Target* block = to + first * step;
    for (int i = 0; i < count; ++i)
      for (int64_t c = 0; c < classes; ++c)
        block[i * step + c] = convert_back<Target>(tile[c * stride + first + i]);
  }
}

}  // namespace jml::JML_ISA
