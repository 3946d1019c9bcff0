// Registers the CPU kernels for the operators that jml_kernels/ops.py defines.
#include "cpu/operators.h"

STABLE_TORCH_LIBRARY_IMPL(jml_kernels, CPU, m) { JML_REGISTER(m, "cpu", jml::Cpu); }
