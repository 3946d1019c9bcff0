// The kernels of one instruction set, as the launchers call them.
#pragma once

#include "arguments.h"

namespace jml {

using Kernel = void (*)(const Arguments&, int64_t, int64_t);

struct Kernels {
  const char* name;
  Kernel statistics, backward;
  Kernel upsampled_statistics, upsampled_backward;  // by cells
  Kernel lovasz_gaps;
};

// Those of the best instruction set that this machine has; the environment variable JML_CPU_ISA
// lowers it.
const Kernels& kernels();

// Runs a kernel over all chunks.
void run(const Arguments& args, Kernel kernel);

}  // namespace jml
