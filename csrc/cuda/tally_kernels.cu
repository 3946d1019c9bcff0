// The kernels that count for metrics. Their tiles are those of hard labels (configs.cuh).
#include "tally.cuh"
#include "tally_maps.cuh"

namespace jml::cuda {
namespace {

template <typename F, bool kGeneral, bool kUpsample, int K, int V, int kMaxWarps, int kWarpsAtATime>
TallyKernel kernel_of() {
  using C = Config<F, Activation::softmax, false, true, false, kGeneral, kUpsample, K, V, kMaxWarps,
                   kWarpsAtATime>;
  return {tally_kernel<C>, K, V, kMaxWarps, Tally<C>::shared_bytes};
}

}  // namespace

TallyKernel tally_kernel_for(int64_t classes) {
  if (classes <= 8) return kernel_of<float, false, false, 8, 8, 1, 12>();
  if (classes <= 3 * 22) return kernel_of<float, false, false, 22, 4, 3, 12>();
  return kernel_of<float, false, false, 22, 2, 12, 12>();
}

TallyKernel upsampling_tally_kernel_for(int64_t classes) {
  if (classes <= 8) return kernel_of<float, false, true, 8, 4, 1, 12>();
  return kernel_of<float, false, true, 20, 2, 8, 16>();
}

TallyKernel general_tally_kernel(bool is_double) {
  return is_double ? kernel_of<double, true, false, 4, 1, 8, 12>()
                   : kernel_of<float, true, false, 4, 2, 8, 12>();
}

MapKernel mark_kernel() { return mark_pixels; }
MapKernel boundary_kernel() { return count_boundaries; }

}  // namespace jml::cuda
