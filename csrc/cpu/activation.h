// Logits of a tile to probabilities.
#pragma once

#include <limits>

#include "feed.h"

namespace jml::JML_ISA {

template <typename T>
JML_MATH Vector<T> exp_nonpositive(Vector<T> x) {
  if constexpr (sizeof(T) == sizeof(double)) {
    return exp_double<Vector<uint64_t>>(x);
  } else {
#if JML_VECTOR_BYTES == 64
    // exp_single with the instructions that AVX-512 has: rounding, and p 2^n where NaN stays.
    const auto n = (Vector<float>)_mm512_roundscale_ps((__m512)(x * 1.44269504f), 8);
    const Vector<float> p = exp2_fraction(Vector<float>(x * 1.44269504f - n));
    const __mmask16 normal = _mm512_cmp_ps_mask((__m512)x, _mm512_set1_ps(-87.0f), _CMP_NLT_UQ);
    return (Vector<T>)_mm512_maskz_scalef_ps(normal, (__m512)p, (__m512)n);
#else
    return exp_single<Vector<uint32_t>>(x);
#endif
  }
}

// The rows of numbers that a softmax over a tile reads and writes, one number for each pixel.
template <typename T>
struct SoftmaxRows {
  const T* valid;  // 1 or 0
  T* label;        // in: the label's logit, out: its probability; null without labels
  T* miss;         // out: 1 - probability of the label
  T* scale;        // out: valid / sum
  T* dot;          // out, with kDot: sum of a_c x_c over the tile
};

// Softmax over the classes of a tile, a few pixels at a time so that all but x stays in registers:
// the largest logit, x <- e^(x - largest) and the sum, from which x * scale is the probability.
// The label's logit is not in the tile: `sum` is that of the other classes, so that 1 - x of the
// label has no subtraction, and a confident prediction keeps its digits.
// Meanwhile the feed copies the next tile.
template <bool kLabels, bool kDot, typename T>
void softmax_tile(T* x, int64_t classes, int64_t stride, int n, const T* a,
                  const SoftmaxRows<T>& rows, Feed& logits) {
  using V = Vector<T>;
  constexpr int kGroup = 2;  // vectors: more do not fit beside the exponential's constants
  constexpr int kWide = kGroup * kWidth<T>;
  Feed feed = logits;  // in registers
  for (int p = 0; p < n; p += kWide) {
    V largest[kGroup], sum[kGroup] = {}, dot[kGroup] = {};
    for (int k = 0; k < kGroup; ++k)
      largest[k] = kLabels ? load(rows.label, p + k * kWidth<T>)
                           : V{} - std::numeric_limits<T>::infinity();
    for (int64_t c = 0; c < classes; ++c)
      for (int k = 0; k < kGroup; ++k)
        largest[k] = larger<T>(load(x + c * stride, p + k * kWidth<T>), largest[k]);
    for (int64_t c = 0; c < classes; ++c) {
      for (int k = 0; k < kGroup; ++k) {
        T* place = x + c * stride + p + k * kWidth<T>;
        const V e = exp_nonpositive<T>(load(place, 0) - largest[k]);
        store(place, 0, e);
        sum[k] += e;
        if (kDot) dot[k] += e * a[c];
      }
      feed.step();
    }
    for (int k = 0; k < kGroup; ++k) {
      const int at = p + k * kWidth<T>;
      V e = {};
      if (kLabels) e = exp_nonpositive<T>(load(rows.label, at) - largest[k]);
      const V inverse = T(1) / (sum[k] + e);
      const V scale = load(rows.valid, at) != T(0) ? inverse : V{};
      store(rows.scale, at, scale);
      if (kLabels) store(rows.label, at, e * scale);
      if (kLabels) store(rows.miss, at, sum[k] * scale);
      if (kDot) store(rows.dot, at, dot[k] * scale);
    }
  }
  logits = feed;
}

template <typename T>
void sigmoid_row(T* __restrict x, int n) {
  for (int p = 0; p < n; ++p) x[p] = sigmoid(x[p]);
}

}  // namespace jml::JML_ISA
