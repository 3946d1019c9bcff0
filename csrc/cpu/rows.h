// Loops over one row of a tile: the pixels of one class, contiguous, a multiple of kRowStep.
// The compiler vectorises the plain loops; sums are written with vectors, because their order is
// part of the result: element i goes to lane i mod kRowStep whatever the instruction set.
#pragma once

#include "../pixel_math.h"
#include "arguments.h"

namespace jml::JML_ISA {

constexpr int kVectorBytes = JML_VECTOR_BYTES;
constexpr int kLaneBytes = 128;  // four AVX2 registers: additions in flight hide their latency

template <typename T>
constexpr int kRowStep = kLaneBytes / int(sizeof(T));

template <typename T>
struct VectorOf {
  typedef T type __attribute__((vector_size(kVectorBytes)));
};
template <typename T>
using Vector = typename VectorOf<T>::type;

template <typename T>
constexpr int kWidth = kVectorBytes / int(sizeof(T));
constexpr int kAccumulators = kLaneBytes / kVectorBytes;

// Sums over pixels are folded, row by row, into these double lanes, and those added at the end of
// a chunk: no horizontal sum in a row's time.
constexpr int kFoldLanes = 8;

struct FoldedSum {
  double lane[kFoldLanes] = {};

  double total() const {
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) +
           ((lane[1] + lane[5]) + (lane[3] + lane[7]));
  }
};

// The lanes of a sum over a row.
template <typename T>
struct RowSum {
  Vector<T> lane[kAccumulators] = {};

  JML_MATH void fold_into(FoldedSum& sum) const {
    alignas(64) T values[kRowStep<T>];
    memcpy(values, lane, sizeof(lane));
    for (int i = 0; i < kFoldLanes; ++i) {
      T folded = values[i] + values[i + kFoldLanes];
      if constexpr (kRowStep<T> == 4 * kFoldLanes)
        folded += values[i + 2 * kFoldLanes] + values[i + 3 * kFoldLanes];
      sum.lane[i] += double(folded);
    }
  }
};

// Calls body(accumulator, offset) so that each accumulator sees its own lanes of a row.
template <typename T, typename Body>
JML_MATH void for_lanes(int n, Body body) {
  for (int p = 0; p < n; p += kRowStep<T>)
    for (int k = 0; k < kAccumulators; ++k) body(k, p + k * kWidth<T>);
}

template <typename T>
JML_MATH Vector<T> load(const T* row, int offset) {
  Vector<T> vector;
  memcpy(&vector, row + offset, sizeof(vector));
  return vector;
}

// ---- activation ----------------------------------------------------------------------------

// x <- e^(x - shift), sum += x, for two rows at a time: sum and shift are read half as often.
template <typename T>
void exp_rows(T* __restrict x0, T* __restrict x1, const T* __restrict shift, T* __restrict sum,
              int n) {
  for (int p = 0; p < n; ++p) {
    const T e0 = exp_nonpositive(x0[p] - shift[p]);
    const T e1 = exp_nonpositive(x1[p] - shift[p]);
    x0[p] = e0;
    x1[p] = e1;
    sum[p] += e0 + e1;
  }
}

// The same, and dot += a * x
template <typename T>
void exp_dot_rows(T* __restrict x0, T* __restrict x1, const T* __restrict shift,
                  T* __restrict sum, T* __restrict dot, T a0, T a1, int n) {
  for (int p = 0; p < n; ++p) {
    const T e0 = exp_nonpositive(x0[p] - shift[p]);
    const T e1 = exp_nonpositive(x1[p] - shift[p]);
    x0[p] = e0;
    x1[p] = e1;
    sum[p] += e0 + e1;
    dot[p] += a0 * e0 + a1 * e1;
  }
}

template <typename T>
void sigmoid_row(T* __restrict x, int n) {
  for (int p = 0; p < n; ++p) x[p] = sigmoid(x[p]);
}

template <typename T>
void scale_row(T* __restrict x, const T* __restrict factor, int n) {
  for (int p = 0; p < n; ++p) x[p] *= factor[p];
}

// ---- statistics ----------------------------------------------------------------------------
// x * scale is the probability; scale is the softmax' division, and 0 where a pixel is not valid.

template <typename T>
void dot_row(const T* x, const T* scale, int n, FoldedSum& result) {
  RowSum<T> sum;
  for_lanes<T>(n, [&](int k, int p) __attribute__((always_inline)) {
    sum.lane[k] += load(x, p) * load(scale, p);
  });
  sum.fold_into(result);
}

template <typename T>
void overlap_row(const T* x, const T* scale, const T* y, int n, FoldedSum& true_positive,
                 FoldedSum& false_positive, FoldedSum& false_negative) {
  RowSum<T> tp, fp, fn;
  for_lanes<T>(n, [&](int k, int p) __attribute__((always_inline)) {
    const Overlap<Vector<T>> term = overlap(load(x, p) * load(scale, p), load(y, p));
    tp.lane[k] += term.true_positive;
    fp.lane[k] += term.false_positive;
    fn.lane[k] += term.false_negative;
  });
  tp.fold_into(true_positive);
  fp.fold_into(false_positive);
  fn.fold_into(false_negative);
}

// Maxima are kept in lanes too, until the end of a chunk; none is negative. They pass NaN over: the
// sums of the same row have it.
template <typename T>
struct FoldedMax {
  T lane[kFoldLanes] = {};

  T largest() const {
    T result = lane[0];
    for (T value : lane) result = value > result ? value : result;
    return result;
  }
};

// The largest of x + y over a row, or of x where y is null.
template <typename T>
void max_row(const T* x, const T* y, int n, FoldedMax<T>& result) {
  Vector<T> best[kAccumulators] = {};
  if (y)
    for_lanes<T>(n, [&](int k, int p) __attribute__((always_inline)) {
      const Vector<T> value = load(x, p) + load(y, p);
      best[k] = value > best[k] ? value : best[k];
    });
  else
    for_lanes<T>(n, [&](int k, int p) __attribute__((always_inline)) {
      const Vector<T> value = load(x, p);
      best[k] = value > best[k] ? value : best[k];
    });
  alignas(64) T values[kRowStep<T>];
  memcpy(values, best, sizeof(best));
  for (int first = 0; first < kRowStep<T>; first += kFoldLanes)
    for (int i = 0; i < kFoldLanes; ++i)
      result.lane[i] = values[first + i] > result.lane[i] ? values[first + i] : result.lane[i];
}

// ---- pixels: rows of one number for each pixel ----------------------------------------------

// Of pixels with codes of labels (< 0: none): which are valid, and the row of each label, which is
// `none` for a pixel that is not valid. Returns how many are valid.
template <typename T>
int place_labels(const int32_t* __restrict code, int32_t none, T* __restrict valid,
                 int32_t* __restrict row, int n) {
  int count = 0;
  for (int p = 0; p < n; ++p) {
    const bool counts = code[p] >= 0;
    valid[p] = counts ? T(1) : T(0);
    row[p] = counts ? code[p] : none;
    count += counts;
  }
  return count;
}

// The same where a mask (`valid` as it comes in) may exclude pixels. In a binary task label 1 is
// at row 0 (`shift` is 1), and label 0 at none.
template <typename T>
int place_labels(const int32_t* __restrict code, int32_t shift, int32_t none, T* __restrict valid,
                 int32_t* __restrict row, int n) {
  int count = 0;
  for (int p = 0; p < n; ++p) {
    const bool counts = code[p] >= 0 && valid[p] != 0;
    valid[p] = counts ? T(1) : T(0);
    row[p] = counts && code[p] >= shift ? code[p] - shift : none;
    count += counts;
  }
  return count;
}

template <typename T>
int count_valid(const T* __restrict valid, int n) {
  int count = 0;
  for (int p = 0; p < n; ++p) count += valid[p] != 0;
  return count;
}

// The target at the label and elsewhere, where `smoothed` (all pixels if null) and valid.
template <typename T>
void target_row(const int32_t* __restrict smoothed, T epsilon, T labels, const T* __restrict valid,
                T* __restrict on, T* __restrict off, int n) {
  for (int p = 0; p < n; ++p) {
    const LabelTarget<T> target =
        label_target(!smoothed || smoothed[p] ? epsilon : T(0), labels);
    on[p] = target.on * valid[p];
    off[p] = target.off * valid[p];
  }
}

// Pixels that do not count get 0, whatever they hold.
template <typename T>
void keep_valid(T* __restrict row, const T* __restrict valid, int n) {
  for (int p = 0; p < n; ++p) row[p] = valid[p] != 0 ? row[p] : T(0);
}

// scale = valid / sum
template <typename T>
void softmax_scale(const T* __restrict sum, const T* __restrict valid, T* __restrict scale,
                   int n) {
  for (int p = 0; p < n; ++p) scale[p] = valid[p] != 0 ? T(1) / sum[p] : T(0);
}

// The label's logit becomes its probability; `sum` is that of the other classes, so that `miss`
// = 1 - x has no subtraction: a confident prediction keeps its digits.
template <typename T>
void softmax_label(T* __restrict x, const T* __restrict largest, const T* __restrict sum,
                   const T* __restrict valid, T* __restrict scale, T* __restrict miss, int n) {
  for (int p = 0; p < n; ++p) {
    const T e = exp_nonpositive(x[p] - largest[p]);
    const T inverse = valid[p] != 0 ? T(1) / (sum[p] + e) : T(0);
    scale[p] = inverse;
    x[p] = e * inverse;
    miss[p] = sum[p] * inverse;
  }
}

// The label's terms. Its row holds x = 0 against the target `off`, which counted as fn: that is
// taken back. `miss` may be 1 - x, and is then the fn of a hard label.
template <typename T>
void label_terms(const T* __restrict x, const T* __restrict on, const T* __restrict off,
                 const T* __restrict miss, T* __restrict tp, T* __restrict fp, T* __restrict fn,
                 T* __restrict xy, int n) {
  for (int p = 0; p < n; ++p) {
    const Overlap<T> terms = overlap(x[p], on[p]);
    tp[p] = terms.true_positive;
    fp[p] = terms.false_positive;
    fn[p] = miss && off[p] == 0 ? miss[p] : terms.false_negative - off[p];
    xy[p] = x[p] * on[p];
  }
}

// ---- gradient ------------------------------------------------------------------------------

// x <- x * scale, g <- the gradient rule at (x, y), dot += x * g; g may be y.
template <typename T>
void gradient_row(T* __restrict x, const T* __restrict scale, const T* y,
                  const GradientRule<T> rule, T* g, T* __restrict dot, int n) {
#pragma GCC ivdep
  for (int p = 0; p < n; ++p) {
    const T probability = x[p] * scale[p];
    const T value = gradient(rule, probability, y[p]);
    x[p] = probability;
    g[p] = value;
    dot[p] += probability * value;
  }
}

// The rules of the labels' classes, one for each pixel.
template <typename T>
void gather_rules(const GradientRule<T>* __restrict rule, const int32_t* __restrict row,
                  T* __restrict a, T* __restrict b, T* __restrict c, T* __restrict d, int n) {
  for (int p = 0; p < n; ++p) {
    const GradientRule<T> at = rule[row[p]];
    a[p] = at.a, b[p] = at.b, c[p] = at.c, d[p] = at.d;
  }
}

// The same for one pixel's label each, with the rule of its class.
template <typename T>
void label_gradient(const T* __restrict x, const T* __restrict on, const T* __restrict a,
                    const T* __restrict b, const T* __restrict c, const T* __restrict d,
                    T* __restrict g, T* __restrict dot, int n) {
  for (int p = 0; p < n; ++p) {
    const T value = gradient(GradientRule<T>{a[p], b[p], c[p], d[p]}, x[p], on[p]);
    g[p] = value;
    dot[p] += x[p] * value;
  }
}

// With hard labels g is `at_label` of the class: one number to gather.
template <typename T>
void hard_label_gradient(const T* __restrict x, const T* __restrict at_label,
                         const int32_t* __restrict row, T* __restrict g, T* __restrict dot,
                         int n) {
  for (int p = 0; p < n; ++p) g[p] = at_label[row[p]];
  for (int p = 0; p < n; ++p) dot[p] += x[p] * g[p];
}

// Softmax: dL/dz_c = x_c (g_c - sum_j x_j g_j)
template <typename T>
void softmax_gradient_row(T* __restrict x, const T* __restrict g, const T* __restrict dot, int n) {
  for (int p = 0; p < n; ++p) x[p] *= g[p] - dot[p];
}

// The same where g is one number, with x before its division by the sum.
template <typename T>
void softmax_gradient_row(T* __restrict x, const T* __restrict scale, T g,
                          const T* __restrict dot, int n) {
  for (int p = 0; p < n; ++p) x[p] *= scale[p] * (g - dot[p]);
}

// Sigmoid: dL/dz = g x (1 - x)
template <typename T>
void sigmoid_gradient_row(T* __restrict x, const T* __restrict g, int n) {
  for (int p = 0; p < n; ++p) x[p] = g[p] * x[p] * (1 - x[p]);
}

}  // namespace jml::JML_ISA
