// The kernels for labels, smoothed or not, and logits of lower resolution.
#include "kernel_table.cuh"

namespace jml::cuda {

Kernels upsampling_hard_kernels(Size size) {
  return upsampling_kernels_of_size<Targets::hard_labels>(size);
}

Kernels upsampling_label_kernels(Size size) {
  return upsampling_kernels_of_size<Targets::labels>(size);
}

}  // namespace jml::cuda
