// Sums and maxima over rows. Element i goes to lane i mod kRowStep whatever the instruction set:
// the order of a sum is part of the result.
#pragma once

#include "../columns.h"
#include "prefetch.h"
#include "rows.h"

namespace jml::JML_ISA {

// Sums over pixels are folded, row by row, into these double lanes, and those added at the end of
// a chunk: no horizontal sum in a row's time.
constexpr int kFoldLanes = 8;

typedef double FoldLanes __attribute__((vector_size(kFoldLanes * sizeof(double))));

constexpr int kAccumulators = kRowBytes / kVectorBytes;

// Calls body(accumulator, offset) so that each accumulator sees its own lanes of a row.
template <typename T, typename Body>
JML_MATH void for_lanes(int n, Body body) {
  for (int first = 0; first < n; first += kRowStep<T>)
    for (int k = 0; k < kAccumulators; ++k) body(k, first + k * kWidth<T>);
}

static_assert(kBlock == 2 * kFoldLanes);

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

  // Neighbouring pixels, which mostly have one label, do not wait for each other.
  template <typename T>
  JML_MATH void add_pixel(int i, T value) {
    lane[i % kFoldLanes] += double(value);
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
    // Number by number: vectors as in fold_block made the loops around it slower.
    for (int i = 0; i < kFoldLanes; ++i) {
      T folded = values[i] + values[i + kFoldLanes];
      if constexpr (kRowStep<T> == 4 * kFoldLanes)
        folded += values[i + 2 * kFoldLanes] + values[i + 3 * kFoldLanes];
      sum.lane[i] += double(folded);
    }
  }
};

// result gains the sum of x * y.
template <typename T>
void dot_row(const T* x, const T* y, int n, FoldedSum& result) {
  RowSum<T> sum;
  for_lanes<T>(n, [&](int k, int i) __attribute__((always_inline)) {
    sum.lane[k] += load(x, i) * load(y, i);
  });
  sum.fold_into(result);
}

// Maxima are kept in lanes too, until the end of a chunk; none is negative. They pass NaN over,
// which the sums of the same row have.
template <typename T>
struct FoldedMax {
  T lane[kFoldLanes] = {};

  JML_MATH void add_pixel(int i, T value) {
    T& most = lane[i % kFoldLanes];
    most = value > most ? value : most;
  }

  JML_MATH void add_block(const T* value) {
    for (int i = 0; i < kFoldLanes; ++i) {
      const T most = value[i] > value[i + kFoldLanes] ? value[i] : value[i + kFoldLanes];
      lane[i] = most > lane[i] ? most : lane[i];
    }
  }

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

// ---- overlap -------------------------------------------------------------------------------
// Rows of x, where p = x * scale, against rows of the target y.

template <typename T>
struct OverlapSums {
  RowSum<T> tp, fp, fn;

  JML_MATH void add(int k, Vector<T> p, Vector<T> y) {
    const OverlapTerms<Vector<T>> term = overlap_terms(p, y);
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

// p against a dense target, and the largest target; where `p_sum` is given, it gains the sum of p
// itself, which is tp + fp. Meanwhile the prefetch copies the next target, of which `prefetched`
// gets the largest bits.
template <typename T>
void overlap_row(const T* x, const T* scale, const T* y, int n, FoldedSum& true_positive,
                 FoldedSum& false_positive, FoldedSum& false_negative, FoldedMax<T>& target_max,
                 FoldedSum* p_sum, Prefetch& prefetch, LargestBits<float>& prefetched) {
  OverlapSums<T> sums;
  RowMax<T> most;
  LargestBits<float> largest = prefetched;  // in registers
  for_lanes<T>(n, [&](int k, int i) __attribute__((always_inline)) {
    const Vector<T> target = load(y, i);
    sums.add(k, load(x, i) * load(scale, i), target);
    most.add(k, target);
    if (k % 2) prefetch.step(largest);
  });
  prefetched = largest;
  sums.fold_into(true_positive, false_positive, false_negative);
  most.fold_into(target_max);
  if (!p_sum) return;
  for (int k = 0; k < kAccumulators; ++k) sums.tp.lane[k] += sums.fp.lane[k];
  sums.tp.fold_into(*p_sum);
}

// The same against labels: in blocks where none is smoothed the target is 0 outside of the label's
// own place, and p itself is the only term.
template <typename T>
void overlap_row(const T* x, const T* scale, const T* target_elsewhere, const uint8_t* has_smoothed,
                 int n, FoldedSum& true_positive, FoldedSum& false_positive,
                 FoldedSum& false_negative) {
  OverlapSums<T> sums;
  for_lanes<T>(n, [&](int k, int i) __attribute__((always_inline)) {
    const Vector<T> p = load(x, i) * load(scale, i);
    if (has_smoothed[i / kBlock])
      sums.add(k, p, load(target_elsewhere, i));
    else
      sums.fp.lane[k] += p;
  });
  sums.fold_into(true_positive, false_positive, false_negative);
}

// The largest of p + y over a row, or of p where y is null.
template <typename T>
void max_row(const T* p, const T* y, int n, FoldedMax<T>& result) {
  RowMax<T> most;
  for_lanes<T>(n, [&](int k, int i) __attribute__((always_inline)) {
    most.add(k, y ? load(p, i) + load(y, i) : load(p, i));
  });
  most.fold_into(result);
}

}  // namespace jml::JML_ISA
