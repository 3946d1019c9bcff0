// Vectors of the instruction set at hand. The compiler vectorises plain loops over rows (rows.h);
// where it misses an instruction, or the order of a sum is part of the result, loops are written
// with these.
#pragma once

#include "elementary.h"

namespace jml::JML_ISA {

constexpr int kVectorBytes = JML_VECTOR_BYTES;

template <typename T>
struct VectorOf {
  typedef T type __attribute__((vector_size(kVectorBytes)));
};
template <typename T>
using Vector = typename VectorOf<T>::type;

template <typename T>
constexpr int kWidth = kVectorBytes / int(sizeof(T));

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

// Ends the streams of this thread: after it others may read what was streamed.
JML_MATH void end_streams() {
#if JML_VECTOR_BYTES > 16
  _mm_sfence();
#endif
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

}  // namespace jml::JML_ISA
