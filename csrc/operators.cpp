// Registers the CPU kernels for the operators that jml_kernels/ops.py and tally.py define.
#include "cpu/operators.h"

STABLE_TORCH_LIBRARY_IMPL(jml_kernels, CPU, m) {
  JML_REGISTER(m, "cpu", jml::Cpu);
  JML_REGISTER_TALLY(m, "cpu", jml::Cpu);
}
