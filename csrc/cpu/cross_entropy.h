// Cross-entropy, pixel by pixel, and its gradient where that is not part of the softmax' own.
//
//     softmax  -sum_c w_c y_c log x_c, from what softmax_tile leaves: -log x = lead + log1p(rest)
//     sigmoid  sum_c w_c (-y_c log x_c - (1 - y_c) log(1 - x_c)), element by element
//     none     either of the two, of probabilities
//
// With q the gradient of the sum, that of the logits is q (x_c sum_j w_j y_j - w_c y_c) for a
// softmax, q w_c (x_c - y_c) for a sigmoid, and -q w_c y_c / x_c for probabilities. A "pull" is
// this with its sign turned: towards the target.
#pragma once

#include "arguments.h"
#include "vectors.h"

namespace jml::JML_ISA {

// ---- softmax -------------------------------------------------------------------------------

// Of labels: out <- on w nll + off (sum of w_c nll_c over other classes), where nll = -log x of the
// label. The other classes' is nll + z - z_c each: `gaps` is the sum of w_c (z_c - z).
template <typename T>
void label_entropy(const T* __restrict lead, const T* __restrict rest, const T* __restrict weight,
                   T weights, const T* __restrict gaps, const T* __restrict on,
                   const T* __restrict off, T* __restrict out, int n) {
  for (int p = 0; p < n; ++p) {
    const T nll = lead[p] + log1p_positive(rest[p]);
    // An impossible label is infinitely wrong, whatever the others are.
    const T finite = nll - nll == 0 ? (weights - weight[p]) * nll - gaps[p] : nll;
    out[p] = (weight[p] != 0 ? on[p] * weight[p] * nll : T(0)) +
             (off[p] != 0 ? off[p] * finite : T(0));
  }
}

// The same of hard labels.
template <typename T>
void label_entropy(const T* __restrict lead, const T* __restrict rest, const T* __restrict weight,
                   T* __restrict out, int n) {
  for (int p = 0; p < n; ++p)
    out[p] = weight[p] != 0 ? weight[p] * (lead[p] + log1p_positive(rest[p])) : T(0);
}

// gaps[p] += weight (z[p] - label[p])
template <typename T>
void add_gap(const T* __restrict z, const T* __restrict label, T weight, T* __restrict gaps,
             int n) {
  for (int p = 0; p < n; ++p) gaps[p] += weight * (z[p] - label[p]);
}

// Of a dense target: out <- spread + share log-sum-exp, and what `spread` is lacking of the label's
// class, which is not in the tile: y of it, null without labels.
template <typename T>
void dense_entropy(const T* __restrict spread, const T* __restrict share,
                   const T* __restrict rest, const T* __restrict lead, const T* __restrict label_y,
                   T* __restrict out, int n) {
  for (int p = 0; p < n; ++p) {
    const T own = label_y ? label_y[p] : T(0);
    const T beyond = own != 0 ? own * lead[p] : T(0);
    out[p] = spread[p] + beyond + share[p] * log1p_positive(rest[p]);
  }
}

// ---- element by element --------------------------------------------------------------------

// The target of class c in a row: `on` in the label's place and `off` elsewhere, or a dense one.
template <typename T>
struct RowTarget {
  const T* y = nullptr;  // dense
  const int32_t* row = nullptr;
  int32_t c = 0;
  const T *on = nullptr, *off = nullptr;

  JML_MATH T operator()(int p) const { return y ? y[p] : row[p] == c ? on[p] : off[p]; }
};

// -y log x, and -(1 - y) log(1 - x) where classes are independent, of z; 0 log 0 = 0.
template <Activation kActivation, typename T>
JML_MATH T element_entropy(T z, T y, bool independent) {
  if constexpr (kActivation == Activation::sigmoid) {
    const T far = log1p_positive(jml::exp_nonpositive(z < 0 ? z : -z));
    const T hit = (z < 0 ? -z : T(0)) + far, miss = (z > 0 ? z : T(0)) + far;
    return (y != 0 ? y * hit : T(0)) + (y != 1 ? (1 - y) * miss : T(0));
  } else {
    const T hit = y != 0 ? -y * log_any(z) : T(0);
    return independent && y != 1 ? hit - (1 - y) * log_any(1 - z) : hit;
  }
}

// The gradient of the same, negative.
template <Activation kActivation, typename T>
JML_MATH T element_pull(T z, T y, bool independent) {
  if constexpr (kActivation == Activation::sigmoid) {
    return y - sigmoid(z);
  } else {
    const T hit = y != 0 ? y / z : T(0);
    return independent && y != 1 ? hit - (1 - y) / (1 - z) : hit;
  }
}

// out[p] += factor entropy(z / temperature, y)
template <Activation kActivation, typename T>
void add_entropy(const T* __restrict z, RowTarget<T> y, T factor, T temperature, bool independent,
                 T* __restrict out, int n) {
  for (int p = 0; p < n; ++p)
    out[p] += factor * element_entropy<kActivation>(z[p] / temperature, y(p), independent);
}

// out[p] += factor pull(z / temperature, y) where a pixel counts
template <Activation kActivation, typename T>
void add_pull(const T* __restrict z, RowTarget<T> y, T factor, T temperature, bool independent,
              const T* __restrict valid, T* __restrict out, int n) {
  for (int p = 0; p < n; ++p)
    out[p] += factor * valid[p] * element_pull<kActivation>(z[p] / temperature, y(p), independent);
}

// A teacher's logits become probabilities, 0 where not valid; entropy, or null, gains theirs.
template <typename T>
void teach_row(T* __restrict y, const T* __restrict valid, T* __restrict entropy, int n) {
  for (int p = 0; entropy && p < n; ++p)
    entropy[p] += element_entropy<Activation::sigmoid>(y[p], sigmoid(y[p]), true);
  for (int p = 0; p < n; ++p) y[p] = valid[p] * sigmoid(y[p]);
}

// ---- softmax at a temperature --------------------------------------------------------------

// x <- factor (weight y - share x), with x still lacking its scale: the pull on the logits of a
// class.
template <typename T>
void softmax_pull(T* __restrict x, const T* __restrict scale, const T* __restrict share,
                  const T* __restrict y, T factor, T weight, int n) {
  for (int p = 0; p < n; ++p) x[p] = factor * (weight * y[p] - share[p] * scale[p] * x[p]);
}

}  // namespace jml::JML_ISA
