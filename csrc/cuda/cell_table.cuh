// Makes the entries of the table of kernels (kernels.h) that go cell by cell.
#pragma once

#include "cells_backward.cuh"
#include "cells_forward.cuh"
#include "kernels.h"

namespace jml::cuda {

template <class C>
Kernels kernels_of_cells() {
  constexpr int kWarps = C::kMaxThreads / kLanes;
  return {{cells_forward_kernel<C>, C::K, 1, kWarps, CellsForward<C>::shared_bytes},
          {cells_backward_kernel<C>, C::K, 1, kWarps, CellsBackward<C>::shared_bytes}};
}

// 16 warps find room on a multiprocessor, with 128 registers for a thread. The backward of 20 classes has
// 100 numbers of them and some addresses, of which a few are spilled; 12 warps without that would take
// 1.1 times as long by the model (benchmarks/sass), and many classes 1.4 times. Smoothed labels have
// another sum for each class in the forward, which then spills a hundred; with 12 warps they take 0.75
// times as long where no more than 4 warps share a block.
template <bool kHard>
Kernels cell_kernels_of(Size size) {
  if (size == Size::few) return kernels_of_cells<CellConfig<kHard, 8, 4, 16>>();
  if constexpr (!kHard)
    if (size == Size::some) return kernels_of_cells<CellConfig<kHard, 20, 4, 12>>();
  return kernels_of_cells<CellConfig<kHard, 20, 8, 16>>();
}

}  // namespace jml::cuda
