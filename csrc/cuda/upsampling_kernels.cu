// The kernels for labels, smoothed or not, and logits of lower resolution, which go tile by tile.
#include "kernel_table.cuh"

namespace jml::cuda {

Kernels upsampling_label_kernels(Size size) {
  return upsampling_kernels_of_size<Targets::labels>(size);
}

}  // namespace jml::cuda
