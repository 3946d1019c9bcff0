// Registers the CPU kernels for the operators that jml_kernels/ops.py defines.
#include <torch/csrc/stable/library.h>

#include "cpu/statistics.h"

STABLE_TORCH_LIBRARY_IMPL(jml_kernels, CPU, m) {
  m.impl("cpu_statistics", TORCH_BOX(&jml::CpuOperators::statistics));
  m.impl("cpu_statistics_backward", TORCH_BOX(&jml::CpuOperators::backward));
  m.impl("cpu_statistics_backward_", TORCH_BOX(&jml::CpuOperators::backward_inplace));
}
