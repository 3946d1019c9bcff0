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

// What the cross-entropy of a softmax is taken against: labels alone, or none; a dense target; one
// whose weighted sum is 1 in a pixel; the probabilities themselves, which is their entropy.
enum class Against { none, target, unit, itself };

// The rows of numbers that a softmax over a tile reads and writes, one number for each pixel.
template <typename T>
struct SoftmaxRows {
  const T* valid;               // 1 or 0
  T* scale;                     // out: valid / sum
  T* label = nullptr;           // in: the label's logit, out: its probability
  T* miss = nullptr;            // out: 1 - probability of the label
  const T* dot_rule = nullptr;  // a number for each class, a
  T* dot = nullptr;             // out: sum of a_c x_c over the tile
  // For -log x = (largest - z) + log1p(rest), which loses no digits of a confident prediction.
  T* lead = nullptr;  // out: largest - z of the label
  T* rest = nullptr;  // out: sum of e^(z - largest), less 1
  // Against a target y, with weights w: sums over the tile.
  const T *y = nullptr, *weight = nullptr;
  T* spread = nullptr;  // out: w_c y_c (largest - z_c)
  T* share = nullptr;   // out: w_c y_c
};

// Softmax over the classes of a tile, a few pixels at a time so that all but x stays in registers:
// the largest logit, x <- e^(x - largest) and the sum, from which x * scale is the probability;
// with kNormalise x is that itself.
// The label's logit is not in the tile: `sum` is that of the other classes, so that 1 - x of the
// label has no subtraction, and a confident prediction keeps its digits.
// Meanwhile the feed copies a tile that comes next.
template <bool kLabels, bool kDot, Against kAgainst, bool kNormalise = false, typename T>
void softmax_tile(T* x, int64_t classes, int64_t stride, int n, const SoftmaxRows<T>& rows,
                  Feed& next) {
  using V = Vector<T>;
  constexpr int kGroup = 2;  // vectors: more do not fit beside the exponential's constants
  constexpr int kWide = kGroup * kWidth<T>;
  // Without a label of its own a confident prediction's digits are those of all powers but 1.
  constexpr bool kApart = !kLabels && (kAgainst == Against::target || kAgainst == Against::unit);
  Feed feed = next;  // in registers
  for (int p = 0; p < n; p += kWide) {
    V largest[kGroup], sum[kGroup] = {}, dot[kGroup] = {}, spread[kGroup] = {}, share[kGroup] = {};
    V ones[kGroup] = {};  // of the sum: the powers that are 1, counted apart
    for (int k = 0; k < kGroup; ++k)
      largest[k] = kLabels ? load(rows.label, p + k * kWidth<T>)
                           : V{} - std::numeric_limits<T>::infinity();
    for (int64_t c = 0; c < classes; ++c)
      for (int k = 0; k < kGroup; ++k)
        largest[k] = larger<T>(load(x + c * stride, p + k * kWidth<T>), largest[k]);
    for (int64_t c = 0; c < classes; ++c) {
      for (int k = 0; k < kGroup; ++k) {
        const int at = p + k * kWidth<T>;
        T* place = x + c * stride + at;
        const V below = load(place, 0) - largest[k];
        const V e = exp_nonpositive<T>(below);
        store(place, 0, e);
        if (kApart) {
          sum[k] += e == T(1) ? V{} : e;
          ones[k] += e == T(1) ? V{} + T(1) : V{};
        } else {
          sum[k] += e;
        }
        if (kDot) dot[k] += e * rows.dot_rule[c];
        if (kAgainst != Against::none) {
          const V y = kAgainst == Against::itself ? e : load(rows.y + c * stride, at);
          const V part = kAgainst == Against::target ? y * rows.weight[c] : y;
          spread[k] -= y != T(0) ? part * below : V{};  // 0 log 0 = 0
          if (kAgainst != Against::unit) share[k] += part;
        }
      }
      feed.step();
    }
    for (int k = 0; k < kGroup; ++k) {
      const int at = p + k * kWidth<T>;
      V e = {};
      if (kLabels) {
        const V below = load(rows.label, at) - largest[k];
        e = exp_nonpositive<T>(below);
        if (rows.lead) store(rows.lead, at, -below);
      }
      // The largest is in the sum as 1, but where it is the label's.
      const V rest = kApart ? sum[k] + (ones[k] - T(1)) : e == T(1) ? sum[k] : sum[k] - T(1) + e;
      if (rows.rest) store(rows.rest, at, rest);
      sum[k] += ones[k];
      const V inverse = T(1) / (sum[k] + e);
      const V scale = load(rows.valid, at) != T(0) ? inverse : V{};
      store(rows.scale, at, scale);
      if (kLabels) store(rows.label, at, e * scale);
      if (kLabels) store(rows.miss, at, sum[k] * scale);
      if (kDot) store(rows.dot, at, dot[k] * scale);
      if (kAgainst == Against::itself) spread[k] *= scale, share[k] *= scale;
      if (kAgainst != Against::none) store(rows.spread, at, spread[k]);
      if (kAgainst == Against::target || kAgainst == Against::itself)
        store(rows.share, at, share[k]);
      for (int64_t c = 0; kNormalise && c < classes; ++c) {
        T* place = x + c * stride + at;
        store(place, 0, load(place, 0) * scale);
      }
    }
  }
  next = feed;
}

template <typename T>
void sigmoid_row(T* __restrict x, int n) {
  for (int p = 0; p < n; ++p) x[p] = sigmoid(x[p]);
}

}  // namespace jml::JML_ISA
