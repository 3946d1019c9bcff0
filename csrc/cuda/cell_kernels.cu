// The kernels for hard labels and images of lower resolution, which go cell by cell.
#include "cells_backward.cuh"
#include "cells_forward.cuh"
#include "kernels.h"

namespace jml::cuda {
namespace {

template <class C>
Kernels kernels_of() {
  constexpr int kWarps = C::kMaxThreads / kLanes;
  return {{cells_forward_kernel<C>, C::K, 1, kWarps, CellsForward<C>::shared_bytes},
          {cells_backward_kernel<C>, C::K, 1, kWarps, CellsBackward<C>::shared_bytes}};
}

}  // namespace

// 16 warps find room on a multiprocessor, with 128 registers for a thread. The backward of 20 classes has
// 100 numbers of them and some addresses, of which a few are spilled; 12 warps without that would take
// 1.1 times as long by the model (benchmarks/sass), and many classes 1.4 times.
Kernels cell_kernels(Size size) {
  return size == Size::few ? kernels_of<CellConfig<8, 4, 16>>() : kernels_of<CellConfig<20, 8, 16>>();
}

}  // namespace jml::cuda
