// Makes the entries of the table of kernels (kernels.h) from the configurations (configs.cuh).
#pragma once

#include "configs.cuh"
#include "kernels.h"

namespace jml::cuda {

template <class OfForward, class OfBackward>
Kernels kernels_of() {
  return {{forward_kernel<OfForward>, OfForward::K, OfForward::V, OfForward::kMaxThreads / kLanes,
           Forward<OfForward>::shared_bytes},
          {backward_kernel<OfBackward>, OfBackward::K, OfBackward::V,
           OfBackward::kMaxThreads / kLanes, Backward<OfBackward>::shared_bytes}};
}

template <Targets targets, Size size, bool kUpsample = false>
Kernels kernels_of_targets() {
  return kernels_of<Fast<targets, size, false, kUpsample>, Fast<targets, size, true, kUpsample>>();
}

template <Targets targets>
Kernels kernels_of_size(Size size) {
  switch (size) {
    case Size::few: return kernels_of_targets<targets, Size::few>();
    case Size::some: return kernels_of_targets<targets, Size::some>();
    case Size::many: return kernels_of_targets<targets, Size::many>();
    default: return kernels_of_targets<targets, Size::most>();
  }
}

template <Targets targets>
Kernels upsampling_kernels_of_size(Size size) {
  return size == Size::few ? kernels_of_targets<targets, Size::few, true>()
                           : kernels_of_targets<targets, Size::many, true>();
}

}  // namespace jml::cuda
