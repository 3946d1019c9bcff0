// The kernels for a dense target, alone or beside labels.
#include "kernel_table.cuh"

namespace jml::cuda {

Kernels dense_kernels(Size size) { return kernels_of_size<LabelsAndDense>(size); }

}  // namespace jml::cuda
