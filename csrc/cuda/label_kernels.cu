// Labels, smoothed or not.
#include "kernel_of.cuh"

namespace jml::cuda {

Kernels label_kernels(bool small) {
  return small ? kernels_of<AnyLabels<true>>() : kernels_of<AnyLabels<false>>();
}

}  // namespace jml::cuda
