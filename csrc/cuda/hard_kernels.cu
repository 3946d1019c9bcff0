// The kernels for labels without smoothing.
#include "kernel_table.cuh"

namespace jml::cuda {

Kernels hard_kernels(Size size) { return kernels_of_size<HardLabels>(size); }

}  // namespace jml::cuda
