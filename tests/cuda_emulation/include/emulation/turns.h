// The order of turns.
#pragma once

#include <cstdint>
#include <cstdlib>

#include "sanitizers.h"

namespace jml_cuda_emulation {

// The order in which threads that may run do so: JML_CUDA_EMULATION_ORDER is "forward" (the
// default), "reverse" or the seed of a shuffle; the blocks of a grid follow it, too. A kernel
// whose result depends on it has a race.
struct Turns {
  bool reverse = false;
  uint64_t seed = 0;

  void choose() {
    const char* order = getenv("JML_CUDA_EMULATION_ORDER");
    const char c = order ? *order : 'f';
    reverse = c == 'r';
    seed = c >= '0' && c <= '9' ? strtoull(order, nullptr, 10) * 2 + 1 : 0;
  }

  template <typename T>
  JML_UNWATCHED void arrange(T* items, uint64_t count) {
    if (!reverse && seed == 0) return;
    for (uint64_t i = 0; i < count; ++i) {
      uint64_t j = count - 1 - i;
      if (reverse) {
        if (j <= i) return;
      } else {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        j = i + (seed >> 33) % (count - i);
      }
      const T item = items[i];
      items[i] = items[j];
      items[j] = item;
    }
  }
};

}  // namespace jml_cuda_emulation
