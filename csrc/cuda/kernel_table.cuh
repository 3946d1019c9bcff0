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

template <Targets targets>
Kernels kernels_of_size(Size size) {
  switch (size) {
    case Size::few: return kernels_of<Fast<targets, Size::few, false>, Fast<targets, Size::few, true>>();
    case Size::some: return kernels_of<Fast<targets, Size::some, false>, Fast<targets, Size::some, true>>();
    case Size::many: return kernels_of<Fast<targets, Size::many, false>, Fast<targets, Size::many, true>>();
    default: return kernels_of<Fast<targets, Size::most, false>, Fast<targets, Size::most, true>>();
  }
}

}  // namespace jml::cuda
