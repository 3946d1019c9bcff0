// Labels without smoothing.
#include "kernel_of.cuh"

namespace jml::cuda {

Kernels hard_kernels(bool small) {
  return small ? kernels_of<HardLabels<true>>() : kernels_of<HardLabels<false>>();
}

}  // namespace jml::cuda
