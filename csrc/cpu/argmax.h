// The class of the largest logit of each pixel, as torch.argmax has it: the first one of equal
// ones, and NaN is larger than any number.
#pragma once

#include <limits>

#include "prefetch.h"

namespace jml::JML_ISA {

// Of kGroup vectors of pixels, rows x[c * stride]. z_max is the largest logit, NaN where one is.
// step() is called once for each class.
template <int kGroup, typename T, typename Step>
JML_MATH void find_largest(const T* x, int64_t classes, int64_t stride, Vector<T>* z_max,
                           int32_t* largest, Step step) {
  using Place = typename Format<T>::Int;
  typedef int32_t Narrow __attribute__((vector_size(kWidth<T> * sizeof(int32_t))));
  Vector<Place> place[kGroup] = {};
  for (int k = 0; k < kGroup; ++k)
    z_max[k] = Vector<T>{} - std::numeric_limits<T>::infinity();
  for (int64_t c = 0; c < classes; ++c) {
    for (int k = 0; k < kGroup; ++k) {
      const Vector<T> z = load(x + c * stride, k * kWidth<T>);
      // Not "less or equal" is true of NaN as well; behind NaN nothing is larger.
      const auto above = ~(z <= z_max[k]) & (z_max[k] == z_max[k]);
      z_max[k] = above ? z : z_max[k];
      place[k] = above ? Vector<Place>{} + Place(c) : place[k];
    }
    step();
  }
  for (int k = 0; k < kGroup; ++k) {
    const Narrow narrow = __builtin_convertvector(place[k], Narrow);
    memcpy(largest + k * kWidth<T>, &narrow, sizeof(narrow));
  }
}

// Of a tile. Meanwhile the prefetch copies a tile that comes next.
template <typename T>
void argmax_tile(const T* x, int64_t classes, int64_t stride, int n, int32_t* largest,
                 Prefetch& prefetch) {
  constexpr int kGroup = 2;  // vectors, as many as a step of the prefetch copies
  Prefetch next = prefetch;  // in registers
  for (int first = 0; first < n; first += kGroup * kWidth<T>) {
    Vector<T> z_max[kGroup];
    find_largest<kGroup>(x + first, classes, stride, z_max, largest + first,
                         [&]() __attribute__((always_inline)) { next.step(); });
  }
  prefetch = next;
}

}  // namespace jml::JML_ISA
