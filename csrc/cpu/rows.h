// Loops over rows. A row holds one number for each pixel of a tile, contiguous; there are a
// multiple of kRowStep of them, the last ones padding. The compiler vectorises these loops.
#pragma once

#include "vectors.h"

namespace jml::JML_ISA {

constexpr int kRowBytes = 128;  // four AVX2 registers: additions in flight hide their latency

template <typename T>
constexpr int kRowStep = kRowBytes / int(sizeof(T));

// Pixels that are treated alike where their labels are: `one_label` and `has_smoothed` in tile.h.
constexpr int kBlock = 16;

// fill, any and copy are our own, since those of the standard library would be one function for all
// instruction sets.
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

// row <- row * factor
template <typename T>
void scale_row(T* __restrict row, const T* __restrict factor, int n) {
  for (int i = 0; i < n; ++i) row[i] *= factor[i];
}

// out <- row / divisor; out may be row.
template <typename T>
void divide_row(const T* row, T divisor, int n, T* out) {
  for (int i = 0; i < n; ++i) out[i] = row[i] / divisor;
}

// out <- out + row
template <typename T>
void add_row(const T* __restrict row, int n, T* __restrict out) {
  for (int i = 0; i < n; ++i) out[i] += row[i];
}

// out <- out - row
template <typename T>
void subtract_row(const T* __restrict row, int n, T* __restrict out) {
  for (int i = 0; i < n; ++i) out[i] -= row[i];
}

template <typename T>
void sigmoid_row(T* __restrict row, int n) {
  for (int i = 0; i < n; ++i) row[i] = sigmoid(row[i]);
}

// row <- p, and p_not <- 1 - p, which is e^-z p where p is near 1
template <typename T>
void sigmoid_row(T* __restrict row, T* __restrict p_not, int n) {
  for (int i = 0; i < n; ++i) {
    const T z = row[i], p = sigmoid(z);
    row[i] = p;
    p_not[i] = z < 0 ? 1 - p : jml::exp_nonpositive(z > 0 ? -z : z) * p;
  }
}

// Pixels that are not valid get 0, whatever they hold.
template <typename T>
void keep_valid(T* __restrict row, const T* __restrict valid, int n) {
  for (int i = 0; i < n; ++i) row[i] = valid[i] != 0 ? row[i] : T(0);
}

template <typename T>
int count_valid(const T* __restrict valid, int n) {
  int count = 0;
  for (int i = 0; i < n; ++i) count += valid[i] != 0;
  return count;
}

}  // namespace jml::JML_ISA
