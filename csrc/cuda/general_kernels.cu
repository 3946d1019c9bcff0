// The general kernels, for what the others do not take: any activation, precision and number of
// classes.
#include "kernel_table.cuh"

namespace jml::cuda {
namespace {

template <typename F>
Kernels general_kernels_of(Activation activation) {
  switch (activation) {
    case Activation::softmax: return kernels_of<General<F, Activation::softmax>, General<F, Activation::softmax>>();
    case Activation::sigmoid: return kernels_of<General<F, Activation::sigmoid>, General<F, Activation::sigmoid>>();
    default: return kernels_of<General<F, Activation::none>, General<F, Activation::none>>();
  }
}

}  // namespace

Kernels general_kernels(Activation activation, bool is_double) {
  return is_double ? general_kernels_of<double>(activation) : general_kernels_of<float>(activation);
}

}  // namespace jml::cuda
