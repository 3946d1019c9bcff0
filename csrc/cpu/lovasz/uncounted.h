// What stands in place of the gap of a pixel that does not count: a NaN like no other.
#pragma once

#include "../../pixel_math.h"

namespace jml {

template <typename T>
JML_MATH T uncounted() {
  return bit_cast<T>(~Bits<T>(0));
}

// A number as it is, and of all NaN the usual one: logits may hold any of them.
template <typename T>
JML_MATH T one_nan(T number) {
  return number == number ? number : T(__builtin_nan(""));
}

}  // namespace jml
