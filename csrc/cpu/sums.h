// Sums and maxima over rows. Element i goes to lane i mod kRowStep whatever the instruction set:
// the order of a sum is part of the result.
#pragma once

#include "../columns.h"
#include "feed.h"

namespace jml::JML_ISA {

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
    // Number by number: vectors as in fold_block made the loops around it slower.
    for (int i = 0; i < kFoldLanes; ++i) {
      T folded = values[i] + values[i + kFoldLanes];
      if constexpr (kRowStep<T> == 4 * kFoldLanes)
        folded += values[i + 2 * kFoldLanes] + values[i + 3 * kFoldLanes];
      sum.lane[i] += double(folded);
    }
  }
};

// x <- x * factor
template <typename T>
void scale_row(T* __restrict x, const T* __restrict factor, int n) {
  for (int p = 0; p < n; ++p) x[p] *= factor[p];
}

// out <- row / divisor; out may be row.
template <typename T>
void divide_row(const T* row, T divisor, int n, T* out) {
  for (int p = 0; p < n; ++p) out[p] = row[p] / divisor;
}

// out <- out + row
template <typename T>
void add_row(const T* __restrict row, int n, T* __restrict out) {
  for (int p = 0; p < n; ++p) out[p] += row[p];
}

// out <- out - row
template <typename T>
void subtract_row(const T* __restrict row, int n, T* __restrict out) {
  for (int p = 0; p < n; ++p) out[p] -= row[p];
}

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

  JML_MATH void add_pixel(int p, T value) {
    T& most = lane[p % kFoldLanes];
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

template <typename T>
struct OverlapSums {
  RowSum<T> tp, fp, fn;

  JML_MATH void add(int k, Vector<T> x, Vector<T> y) {
    const OverlapTerms<Vector<T>> term = overlap_terms(x, y);
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

// x against a dense target, and the largest target; x alone too, which is tp + fp, where `all` is
// given. Meanwhile the feed copies the next target.
template <typename T>
void overlap_row(const T* x, const T* scale, const T* y, int n, FoldedSum& true_positive,
                 FoldedSum& false_positive, FoldedSum& false_negative, FoldedMax<T>& target_max,
                 FoldedSum* all, Feed& feed) {
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
  if (!all) return;
  for (int k = 0; k < kAccumulators; ++k) sums.tp.lane[k] += sums.fp.lane[k];
  sums.tp.fold_into(*all);
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

}  // namespace jml::JML_ISA
