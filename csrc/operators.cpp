// Registers the CPU kernels for the operators that jml_kernels/ops.py, tally.py and lovasz.py define.
#include "cpu/lovasz/operators.h"
#include "cpu/operators.h"

STABLE_TORCH_LIBRARY_IMPL(jml_kernels, CPU, m) {
  JML_REGISTER(m, "cpu", jml::Cpu);
  JML_REGISTER_TALLY(m, "cpu", jml::Cpu);
  m.impl("cpu_lovasz", TORCH_BOX(&jml::lovasz));
  m.impl("cpu_lovasz_backward_", TORCH_BOX(&jml::lovasz_backward_inplace));
  m.impl("cpu_extension", TORCH_BOX(&jml::lovasz_extension));
}
