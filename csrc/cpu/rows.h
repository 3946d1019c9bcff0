// Loops over one row of a tile: the pixels of one class, contiguous, a multiple of kRowStep.
// The compiler vectorises the plain loops; sums are written with vectors, because their order is
// part of the result: element i goes to lane i mod kRowStep whatever the instruction set.
#pragma once

#include <limits>

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

template <typename T>
JML_MATH void store(T* row, int offset, Vector<T> vector) {
  memcpy(row + offset, &vector, sizeof(vector));
}

// ---- activation ----------------------------------------------------------------------------

template <typename T>
JML_MATH Vector<T> exp_nonpositive(Vector<T> x) {
  if constexpr (sizeof(T) == sizeof(float))
    return exp_single<Vector<uint32_t>>(x);
  else
    return exp_double<Vector<uint64_t>>(x);
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
// `between` is called with the share of the work that is done, in pixels, to prefetch meanwhile.
template <bool kLabels, bool kDot, typename T, typename Between>
void softmax_tile(T* x, int64_t classes, int64_t stride, int n, const T* a,
                  const SoftmaxRows<T>& rows, Between between) {
  using V = Vector<T>;
  constexpr int kGroup = 2;  // vectors: more do not fit beside the exponential's constants
  constexpr int kWide = kGroup * kWidth<T>;
  for (int p = 0; p < n; p += kWide) {
    between(p, p + kWide);
    V largest[kGroup], sum[kGroup] = {}, dot[kGroup] = {};
    for (int k = 0; k < kGroup; ++k)
      largest[k] = kLabels ? load(rows.label, p + k * kWidth<T>)
                           : V{} - std::numeric_limits<T>::infinity();
    for (int64_t c = 0; c < classes; ++c)
      for (int k = 0; k < kGroup; ++k) {
        const V z = load(x + c * stride, p + k * kWidth<T>);
        largest[k] = z > largest[k] ? z : largest[k];
      }
    for (int64_t c = 0; c < classes; ++c)
      for (int k = 0; k < kGroup; ++k) {
        T* place = x + c * stride + p + k * kWidth<T>;
        const V e = exp_nonpositive<T>(load(place, 0) - largest[k]);
        store(place, 0, e);
        sum[k] += e;
        if (kDot) dot[k] += e * a[c];
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
}

template <typename T>
void sigmoid_row(T* __restrict x, int n) {
  for (int p = 0; p < n; ++p) x[p] = sigmoid(x[p]);
}

// x <- x * factor
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

// out <- dz(p), but what the pixel's label has where `row` says that it is of this class, c.
template <bool kLabels, typename T, typename Gradient>
JML_MATH void gradient_out(const int32_t* row, int32_t c, const T* label, T* out, int n,
                           Gradient dz) {
#pragma GCC ivdep
  for (int p = 0; p < n; ++p) {
    const T value = dz(p);
    out[p] = kLabels && row[p] == c ? label[p] : value;
  }
}

}  // namespace jml::JML_ISA
