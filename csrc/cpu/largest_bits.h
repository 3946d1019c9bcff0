// Whether all of many numbers are probabilities, which the largest of their bits tells: as unsigned
// integers, since those of negative numbers, -0 among them, and of NaN are larger than those of any
// number in [0, 1].
#pragma once

#include "vectors.h"

namespace jml::JML_ISA {

// Two vectors at a time, as a prefetch copies them.
template <typename T>
struct LargestBits {
  typedef Vector<Bits<T>> V;
  V lanes[2] = {};

  JML_MATH void add(V first, V second) {
    lanes[0] = first > lanes[0] ? first : lanes[0];
    lanes[1] = second > lanes[1] ? second : lanes[1];
  }

  // Up to rounding, of which is_probability allows a little more.
  bool are_probabilities() const {
    const V largest = lanes[0] > lanes[1] ? lanes[0] : lanes[1];
    bool all = true;
    for (int i = 0; i < kWidth<T>; ++i) all &= largest[i] <= bit_cast<Bits<T>>(T(kSurelyProbability));
    return all;
  }
};

}  // namespace jml::JML_ISA
