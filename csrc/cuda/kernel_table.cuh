// Makes the entries of the table of kernels (kernels.h) from the configurations (configs.cuh).
#pragma once

#include "configs.cuh"
#include "kernels.h"

namespace jml::cuda {

template <class C>
Kernels kernels_of() {
  const int max_warps = C::kMaxThreads / kLanes;
  return {{forward_kernel<C>, C::K, C::V, max_warps, Forward<C>::shared_bytes},
          {backward_kernel<C>, C::K, C::V, max_warps, Backward<C>::shared_bytes}};
}

template <template <Size> class C>
Kernels kernels_of_size(Size size) {
  switch (size) {
    case Size::few: return kernels_of<C<Size::few>>();
    case Size::some: return kernels_of<C<Size::some>>();
    default: return kernels_of<C<Size::many>>();
  }
}

}  // namespace jml::cuda
