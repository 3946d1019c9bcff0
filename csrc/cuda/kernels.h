// The table of kernels, which are compiled in several files (*_kernels.cu).
#pragma once

#include "arguments.cuh"

namespace jml::cuda {

struct Kernel {
  void (*function)(Arguments);
  int classes, pixels;  // of a thread
  int most_warps;
  int64_t (*shared_bytes)(const Arguments&, int warps);
};

// Those that a call may be launched with.
struct Kernels {
  Kernel forward, backward;
};

// `small`: for up to 8 classes.
Kernels hard_kernels(bool small);
Kernels label_kernels(bool small);
Kernels dense_kernels(bool small);
Kernels general_kernels(Activation activation, bool is_double);

}  // namespace jml::cuda
