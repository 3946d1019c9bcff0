// The CPU backend: its functions for the operators (../operators.h).
#pragma once

#include <string>

#include "../operators.h"

namespace jml {

struct Cpu {
  static ThreeTensors statistics(const Inputs& inputs);
  static ThreeTensors loss(const Inputs& inputs, const FormulaInputs& formula);
  static Tensor new_gradient(const Tensor& logits);
  static void write_gradient(const GradientInputs& gradients, const Inputs& inputs,
                             const Tensor& grad);
  static FiveTensors tally(const TallyInputs& inputs);
};

// The instruction set that the kernels run with: "baseline", "avx2" or "avx512". The environment
// variable JML_CPU_ISA lowers it.
std::string cpu_instruction_set();

}  // namespace jml
