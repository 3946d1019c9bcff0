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

// Of our own, since those of the standard library would be one function for all instruction sets.
template <typename T>
JML_MATH void fill(T* to, int64_t count, T value) {
  for (int64_t i = 0; i < count; ++i) to[i] = value;
}

template <typename T>
JML_MATH bool any(const T* values, int count) {
  T bits = 0;
  for (int i = 0; i < count; ++i) bits |= values[i];
  return bits != 0;
}

template <typename T>
JML_MATH void copy(const T* __restrict from, int64_t count, T* __restrict to) {
  for (int64_t i = 0; i < count; ++i) to[i] = from[i];
}

// Sums over pixels are folded, row by row, into these double lanes, and those added at the end of
// a chunk: no horizontal sum in a row's time.
constexpr int kFoldLanes = 8;

typedef double FoldLanes __attribute__((vector_size(kFoldLanes * sizeof(double))));

// Pixels that are treated alike where their labels are: see for_labels and `mixed`.
constexpr int kBlock = 2 * kFoldLanes;

template <typename T>
JML_MATH FoldLanes fold_block(const T* value) {
  typedef T Half __attribute__((vector_size(kFoldLanes * sizeof(T))));
  Half low, high;
  memcpy(&low, value, sizeof(low));
  memcpy(&high, value + kFoldLanes, sizeof(high));
  return __builtin_convertvector(low + high, FoldLanes);
}

struct FoldedSum {
  double lane[kFoldLanes] = {};

  JML_MATH void add(FoldLanes values) {
    for (int i = 0; i < kFoldLanes; ++i) lane[i] += values[i];
  }

  // A pixel: neighbours, which mostly have one label, do not wait for each other.
  template <typename T>
  JML_MATH void add_pixel(int p, T value) {
    lane[p % kFoldLanes] += double(value);
  }

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

// A store past the caches: whole lines are written without being read first. `row` is aligned.
template <typename T>
JML_MATH void stream(T* row, int offset, Vector<T> vector) {
#if JML_VECTOR_BYTES == 64
  _mm512_stream_si512((__m512i*)(row + offset), (__m512i)vector);
#elif JML_VECTOR_BYTES == 32
  _mm256_stream_si256((__m256i*)(row + offset), (__m256i)vector);
#else
  store(row, offset, vector);
#endif
}

// Before others read what was streamed.
JML_MATH void end_streams() {
#if JML_VECTOR_BYTES > 16
  _mm_sfence();
#endif
}

// ---- activation ----------------------------------------------------------------------------

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

// The larger of each pair, b where one is NaN: an instruction that compilers miss.
template <typename T>
JML_MATH Vector<T> larger(Vector<T> a, Vector<T> b) {
#if JML_VECTOR_BYTES == 64
  if constexpr (sizeof(T) == sizeof(float))
    return (Vector<T>)_mm512_max_ps((__m512)a, (__m512)b);
  else
    return (Vector<T>)_mm512_max_pd((__m512d)a, (__m512d)b);
#elif JML_VECTOR_BYTES == 32
  if constexpr (sizeof(T) == sizeof(float))
    return (Vector<T>)_mm256_max_ps((__m256)a, (__m256)b);
  else
    return (Vector<T>)_mm256_max_pd((__m256d)a, (__m256d)b);
#else
  return a > b ? a : b;
#endif
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
// Meanwhile the feeds copy the next tile.
template <bool kLabels, bool kDot, typename T, typename Feed>
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

// The lanes of a maximum over a row.
template <typename T>
struct RowMax {
  Vector<T> lane[kAccumulators] = {};

  JML_MATH void add(int k, Vector<T> value) { lane[k] = larger<T>(value, lane[k]); }

  JML_MATH void fold_into(FoldedMax<T>& most) const {
    alignas(64) T values[kRowStep<T>];
    memcpy(values, lane, sizeof(lane));
    for (int first = 0; first < kRowStep<T>; first += kFoldLanes)
      for (int i = 0; i < kFoldLanes; ++i)
        most.lane[i] = values[first + i] > most.lane[i] ? values[first + i] : most.lane[i];
  }
};


template <typename T>
struct OverlapSums {
  RowSum<T> tp, fp, fn;

  JML_MATH void add(int k, Vector<T> x, Vector<T> y) {
    const Overlap<Vector<T>> term = overlap(x, y);
    tp.lane[k] += term.true_positive;
    fp.lane[k] += term.false_positive;
    fn.lane[k] += term.false_negative;
  }
  JML_MATH void fold_into(FoldedSum& true_positive, FoldedSum& false_positive,
                          FoldedSum& false_negative) const {
    tp.fold_into(true_positive);
    fp.fold_into(false_positive);
    fn.fold_into(false_negative);
  }
};


// x against a dense target, and the largest target. Meanwhile the feed copies the next target.
template <typename T, typename Feed>
void overlap_row(const T* x, const T* scale, const T* y, int n, FoldedSum& true_positive,
                 FoldedSum& false_positive, FoldedSum& false_negative, FoldedMax<T>& target_max,
                 Feed& feed) {
  OverlapSums<T> sums;
  RowMax<T> most;
  for_lanes<T>(n, [&](int k, int p) __attribute__((always_inline)) {
    const Vector<T> target = load(y, p);
    sums.add(k, load(x, p) * load(scale, p), target);
    most.add(k, target);
    if (k % 2) feed.step();
  });
  sums.fold_into(true_positive, false_positive, false_negative);
  most.fold_into(target_max);
}

// The same with labels: in blocks that are not `mixed` the target is 0 outside of the label's own
// place, and x itself is the only term.
template <typename T>
void overlap_row(const T* x, const T* scale, const T* off, const uint8_t* mixed, int n,
                 FoldedSum& true_positive, FoldedSum& false_positive, FoldedSum& false_negative) {
  OverlapSums<T> sums;
  for_lanes<T>(n, [&](int k, int p) __attribute__((always_inline)) {
    const Vector<T> probability = load(x, p) * load(scale, p);
    if (mixed[p / kBlock])
      sums.add(k, probability, load(off, p));
    else
      sums.fp.lane[k] += probability;
  });
  sums.fold_into(true_positive, false_positive, false_negative);
}

// The largest of x + y over a row, or of x where y is null.
template <typename T>
void max_row(const T* x, const T* y, int n, FoldedMax<T>& result) {
  RowMax<T> most;
  for_lanes<T>(n, [&](int k, int p) __attribute__((always_inline)) {
    most.add(k, y ? load(x, p) + load(y, p) : load(x, p));
  });
  most.fold_into(result);
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

// Labels mostly come in regions: pixels are taken by the block where all of it has one label, and
// one by one where not.
inline void find_regions(const int32_t* __restrict row, uint8_t* __restrict one_label, int n) {
  for (int block = 0; block < n / kBlock; ++block) {
    const int32_t* labels = row + block * kBlock;
    int32_t differ = 0;
    for (int i = 0; i < kBlock; ++i) differ |= labels[i] ^ labels[0];
    one_label[block] = differ == 0;
  }
}

// Calls region(row, p) for blocks of pixels p, p + 1, ... with one label, pixel(row, p) for others.
template <typename Region, typename Pixel>
JML_MATH void for_labels(const int32_t* row, const uint8_t* one_label, int n, Region region,
                         Pixel pixel) {
  for (int p = 0; p < n; p += kBlock)
    if (one_label[p / kBlock])
      region(row[p], p);
    else
      for (int i = p; i < p + kBlock; ++i) pixel(row[i], i);
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

// The gradient rule (pixel_math.h) of one class, x against y.
template <typename T>
JML_MATH Vector<T> rule_gradient(const GradientRule<T>& rule, Vector<T> x, Vector<T> y) {
  using V = Vector<T>;
  const V sign = x > y ? V{} + rule.b : x < y ? V{} - rule.b : V{};
  return rule.a + sign + rule.c * y + rule.d * x;
}

// dot = sum over classes of x * g for a few pixels from p on.
template <int kPixels, typename T, typename Feed>
JML_MATH void find_dot(const T* x, const T* scale, const T* y, int64_t y_stride, int64_t classes,
                       int64_t stride, const GradientRule<T>* rules, int p, T* dot, Feed& feed) {
  using V = Vector<T>;
  constexpr int kVectors = kPixels / kWidth<T>;
  V factor[kVectors], sum[kVectors] = {};
  for (int k = 0; k < kVectors; ++k) factor[k] = load(scale, p + k * kWidth<T>);
  for (int64_t c = 0; c < classes; ++c)
    for (int k = 0; k < kVectors; ++k) {
      const int at = p + k * kWidth<T>;
      const V probability = load(x + c * stride, at) * factor[k];
      sum[k] += probability * rule_gradient(rules[c], probability, load(y + c * y_stride, at));
      if (k % 2) feed.step();
    }
  for (int k = 0; k < kVectors; ++k) store(dot, p + k * kWidth<T>, sum[k]);
}

// At the label, where its own term is lacking in dot: x <- the gradient of its logit.
template <typename T>
void label_gradient(Activation activation, T* __restrict x, const T* __restrict g,
                    T* __restrict dot, int n) {
  if (activation == Activation::softmax)
    for (int p = 0; p < n; ++p) {
      dot[p] += x[p] * g[p];
      x[p] = softmax_gradient(x[p], g[p], dot[p]);
    }
  else if (activation == Activation::sigmoid)
    for (int p = 0; p < n; ++p) x[p] = sigmoid_gradient(x[p], g[p]);
  else
    copy(g, n, x);
}

// What a row of the gradient is made of, but for x.
template <typename T>
struct GradientRows {
  const T* scale;        // x * scale is the probability
  const T* dot;          // softmax: sum over classes of x * g
  const uint8_t* mixed;  // with labels: blocks that are not have y = 0, and g = `above`
  const int32_t* row;    // with labels: the class of each pixel, whose gradient is in `label`
  const T* label;
};

template <typename T>
JML_MATH Vector<T> where_class(const int32_t* row, int32_t c, Vector<T> label, Vector<T> other) {
  typedef int32_t Rows __attribute__((vector_size(kWidth<T> * sizeof(int32_t))));
  typedef std::conditional_t<sizeof(T) == sizeof(int32_t), int32_t, int64_t> Wide;
  typedef Wide Mask __attribute__((vector_size(kVectorBytes)));
  Rows rows;
  memcpy(&rows, row, sizeof(rows));
  if constexpr (sizeof(T) == sizeof(int32_t))
    return rows == c ? label : other;
  else
    return __builtin_convertvector(rows, Mask) == c ? label : other;
}

// out <- the gradient of the logits of class c, from a row of x, of y, and the rule of its class;
// `here`: whether it is the label of any of the pixels.
template <Activation kActivation, bool kLabels, bool kStream, typename T>
JML_MATH void gradient_row(const GradientRows<T>& rows, const T* x, const T* y,
                           const GradientRule<T>& rule, int32_t c, bool here, T* out, int n) {
  using V = Vector<T>;
  const V above = V{} + (rule.a + rule.b);
  for (int p = 0; p < n; p += kWidth<T>) {
    const V scale = load(rows.scale, p), probability = load(x, p) * scale;
    V g = above;
    if (!kLabels || rows.mixed[p / kBlock]) g = rule_gradient(rule, probability, load(y, p));
    V dz = kActivation == Activation::softmax
               ? softmax_gradient<V>(probability, g, load(rows.dot, p))
           : kActivation == Activation::sigmoid ? sigmoid_gradient<V>(probability, g)
                                                : g * scale;
    if (kLabels && here) dz = where_class<T>(rows.row + p, c, load(rows.label, p), dz);
    if (kStream)
      stream(out, p, dz);
    else
      store(out, p, dz);
  }
}

}  // namespace jml::JML_ISA
