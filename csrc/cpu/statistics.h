// The CPU operators, as ops.cpp registers them.
#pragma once

#include <string>

#include "../operators.h"

namespace jml {

struct Cpu {};
using CpuOperators = Operators<Cpu, JML_RULE>;

// The instruction set that the kernels run with: "baseline", "avx2" or "avx512". The environment
// variable JML_CPU_ISA lowers it.
std::string cpu_instruction_set();

}  // namespace jml
