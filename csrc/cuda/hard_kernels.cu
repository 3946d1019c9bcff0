// The kernels for labels without smoothing.
#include "kernel_table.cuh"

namespace jml::cuda {

Kernels hard_kernels(Size size) { return kernels_of_size<Targets::hard_labels>(size); }

}  // namespace jml::cuda
