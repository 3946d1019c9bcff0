// The kernels for a dense target beside labels.
#include "kernel_table.cuh"

namespace jml::cuda {

Kernels label_and_dense_kernels(Size size) { return kernels_of_size<Targets::labels_and_dense>(size); }

}  // namespace jml::cuda
