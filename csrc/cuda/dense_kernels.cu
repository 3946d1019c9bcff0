// A dense target, alone or beside labels.
#include "kernel_of.cuh"

namespace jml::cuda {

Kernels dense_kernels(bool small) {
  return small ? kernels_of<LabelsAndDense<true>>() : kernels_of<LabelsAndDense<false>>();
}

}  // namespace jml::cuda
