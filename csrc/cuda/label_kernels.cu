// Labels, smoothed or not.
#include "kernel_of.cuh"

namespace jml::cuda {

Kernels label_kernels(Size size) { return kernels_of_size<AnyLabels>(size); }

}  // namespace jml::cuda
