// Entries of the table of kernels.
#pragma once

#include "configs.cuh"
#include "kernels.h"

namespace jml::cuda {

template <class C>
Kernels kernels_of() {
  const int most_warps = C::kMaxThreads / kLanes;
  return {{forward_kernel<C>, C::K, C::V, most_warps, Forward<C>::shared_bytes},
          {backward_kernel<C>, C::K, C::V, most_warps, Backward<C>::shared_bytes}};
}

}  // namespace jml::cuda
