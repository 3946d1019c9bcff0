// The kernels for labels that may be smoothed.
#include "kernel_table.cuh"

namespace jml::cuda {

Kernels label_kernels(Size size) { return kernels_of_size<Targets::labels>(size); }

}  // namespace jml::cuda
