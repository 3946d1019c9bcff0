// The softmax over the classes of a tile, with the sums over classes that can be had on the way.
#pragma once

#include "argmax.h"

namespace jml::JML_ISA {

template <typename T>
JML_MATH Vector<T> exp_nonpositive(Vector<T> x) {
  if constexpr (sizeof(T) == sizeof(double)) {
    return exp_double<Vector<uint64_t>>(x);
  } else {
#if JML_VECTOR_BYTES == 64
    // exp_single with the instructions that AVX-512 has: rounding, and s 2^n where NaN stays.
    const auto n = (Vector<float>)_mm512_roundscale_ps((__m512)(x * 1.44269504f), 8);
    const Vector<float> s = exp2_fraction(Vector<float>(x * 1.44269504f - n));
    const __mmask16 normal = _mm512_cmp_ps_mask((__m512)x, _mm512_set1_ps(-87.0f), _CMP_NLT_UQ);
    return (Vector<T>)_mm512_maskz_scalef_ps(normal, (__m512)s, (__m512)n);
#else
    return exp_single<Vector<uint32_t>>(x);
#endif
  }
}

// The target y against which a softmax takes a cross-entropy on the way. That of labels needs no
// sum over classes, and is none of these.
enum class EntropyTarget {
  none,
  weighted,   // rows of y, and a weight w of each class
  unit_mass,  // rows of y whose weighted sum is 1 in a pixel
  itself,     // the probabilities, which makes their own entropy
};

// What a softmax over a tile reads and writes: rows of one number for each pixel, and numbers for
// each class. What is null is not asked for. z_max is the largest logit of the pixel, exp_sum the
// sum of e^(z - z_max) over all classes.
template <typename T>
struct SoftmaxRows {
  const T* valid = nullptr;             // 1 or 0
  const T* z_label = nullptr;           // with labels: the logit that is not in the tile
  const T* dot_coefficients = nullptr;  // a, one for each class
  const T* y = nullptr;                 // the dense target, rows as far apart as those of the tile
  const T* class_weights = nullptr;     // w, one for each class

  T* scale = nullptr;                         // out: valid / exp_sum
  T *p_label = nullptr, *p_not_label = nullptr;  // out: the label's probability, that of the others
  T* dot = nullptr;                           // out: sum of a_c p_c over the classes of the tile
  int32_t* largest = nullptr;                 // out: the class of z_max (argmax.h)
  // Out, for -log p = (z_max - z) + log1p(exp_sum - 1), which loses no digits of a confident
  // prediction.
  T* label_gap = nullptr;        // z_max - z_label
  T* exp_sum_minus_1 = nullptr;  // taken without cancellation
  // Out, against a target: sums over the classes of the tile.
  T* weighted_gap = nullptr;  // of w_c y_c (z_max - z_c)
  T* target_mass = nullptr;   // of w_c y_c
};

// Softmax over the classes of a tile, a few pixels at a time so that all but x stays in registers:
// z_max, then x <- e^(z - z_max) and the sum of these, from which x * scale is the probability.
// With kNormalise x becomes that itself. With kLabels the label's logit is not in the tile: the sum
// over the tile is exp_sum_others, so that 1 - p of the label has no subtraction, and a confident
// prediction keeps its digits. With kArgmax it says which class z_max is of. Meanwhile the prefetch
// copies a tile that comes next.
template <bool kLabels, bool kDot, EntropyTarget kTarget, bool kNormalise = false,
          bool kArgmax = false, typename T>
void softmax_tile(T* x, int64_t classes, int64_t stride, int n, const SoftmaxRows<T>& rows,
                  Prefetch& prefetch) {
  using V = Vector<T>;
  constexpr int kGroup = 2;  // vectors: more do not fit beside the exponential's constants
  constexpr int kGroupPixels = kGroup * kWidth<T>;
  // Without a label of its own a confident prediction's digits are those of all powers but 1, which
  // are then counted apart.
  constexpr bool kOnesApart =
      !kLabels && (kTarget == EntropyTarget::weighted || kTarget == EntropyTarget::unit_mass);
  Prefetch next = prefetch;  // in registers
  for (int first = 0; first < n; first += kGroupPixels) {
    V z_max[kGroup], exp_sum[kGroup] = {}, ones[kGroup] = {};
    V dot[kGroup] = {}, weighted_gap[kGroup] = {}, target_mass[kGroup] = {};
    for (int k = 0; k < kGroup; ++k)
      z_max[k] = kLabels ? load(rows.z_label, first + k * kWidth<T>)
                         : V{} - std::numeric_limits<T>::infinity();
    if constexpr (kArgmax)
      find_largest<kGroup>(x + first, classes, stride, z_max, rows.largest + first, [] {});
    else
      for (int64_t c = 0; c < classes; ++c)
        for (int k = 0; k < kGroup; ++k)
          z_max[k] = larger<T>(load(x + c * stride, first + k * kWidth<T>), z_max[k]);
    for (int64_t c = 0; c < classes; ++c) {
      for (int k = 0; k < kGroup; ++k) {
        const int i = first + k * kWidth<T>;
        T* place = x + c * stride + i;
        const V below = load(place, 0) - z_max[k];
        const V e = exp_nonpositive<T>(below);
        store(place, 0, e);
        if (kOnesApart) {
          exp_sum[k] += e == T(1) ? V{} : e;
          ones[k] += e == T(1) ? V{} + T(1) : V{};
        } else {
          exp_sum[k] += e;
        }
        if (kDot) dot[k] += e * rows.dot_coefficients[c];
        if (kTarget != EntropyTarget::none) {
          const V y = kTarget == EntropyTarget::itself ? e : load(rows.y + c * stride, i);
          const V mass = kTarget == EntropyTarget::weighted ? y * rows.class_weights[c] : y;
          weighted_gap[k] -= y != T(0) ? mass * below : V{};  // 0 log 0 = 0
          if (kTarget != EntropyTarget::unit_mass) target_mass[k] += mass;
        }
      }
      next.step();
    }
    for (int k = 0; k < kGroup; ++k) {
      const int i = first + k * kWidth<T>;
      V e = {};  // of the label
      if (kLabels) {
        const V below = load(rows.z_label, i) - z_max[k];
        e = exp_nonpositive<T>(below);
        if (rows.label_gap) store(rows.label_gap, i, -below);
      }
      // The largest logit is in the sum as 1, but where it is the label's.
      const V exp_sum_minus_1 = kOnesApart    ? exp_sum[k] + (ones[k] - T(1))
                                : e == T(1) ? exp_sum[k]
                                            : exp_sum[k] - T(1) + e;
      if (rows.exp_sum_minus_1) store(rows.exp_sum_minus_1, i, exp_sum_minus_1);
      const V exp_sum_others = exp_sum[k] + ones[k];  // without labels: of all classes
      const V inverse = T(1) / (exp_sum_others + e);
      const V scale = load(rows.valid, i) != T(0) ? inverse : V{};
      store(rows.scale, i, scale);
      if (kLabels) store(rows.p_label, i, e * scale);
      if (kLabels) store(rows.p_not_label, i, exp_sum_others * scale);
      if (kDot) store(rows.dot, i, dot[k] * scale);
      if (kTarget == EntropyTarget::itself) weighted_gap[k] *= scale, target_mass[k] *= scale;
      if (kTarget != EntropyTarget::none) store(rows.weighted_gap, i, weighted_gap[k]);
      if (kTarget == EntropyTarget::weighted || kTarget == EntropyTarget::itself)
        store(rows.target_mass, i, target_mass[k]);
      for (int64_t c = 0; kNormalise && c < classes; ++c) {
        T* place = x + c * stride + i;
        store(place, 0, load(place, 0) * scale);
      }
    }
  }
  prefetch = next;
}

}  // namespace jml::JML_ISA
