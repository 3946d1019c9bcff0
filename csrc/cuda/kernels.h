// The table of kernels. They are compiled in several files (*_kernels.cu), so that these can be
// compiled at the same time.
#pragma once

#include "arguments.cuh"

namespace jml::cuda {

struct Kernel {
  void (*function)(Arguments);
  int classes, pixels;  // of a thread
  int max_warps;
  int64_t (*shared_bytes)(const Arguments&, int warps);
};

// The two kernels that the calls of one training step may be launched with.
struct Kernels {
  Kernel forward, backward;
};

// By the number of classes, see configs.cuh.
enum class Size { few, some, many, most };

Kernels hard_kernels(Size size);
Kernels label_kernels(Size size);
Kernels dense_kernels(Size size);
Kernels label_and_dense_kernels(Size size);
Kernels general_kernels(Activation activation, bool is_double);
// For logits of lower resolution, which the general ones take as well: images and labels, hard or
// smoothed, cell by cell, and labels of any sort tile by tile.
Kernels cell_kernels(Size size);
Kernels label_cell_kernels(Size size);
Kernels upsampling_label_kernels(Size size);

}  // namespace jml::cuda
