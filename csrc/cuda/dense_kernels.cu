// The kernels for a dense target alone.
#include "kernel_table.cuh"

namespace jml::cuda {

Kernels dense_kernels(Size size) { return kernels_of_size<Targets::dense>(size); }

}  // namespace jml::cuda
