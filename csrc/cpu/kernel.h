// The two kernels. Compiled once for each instruction set.
#pragma once

#include "backward.h"
#include "forward.h"

namespace jml::JML_ISA {

void statistics(const Arguments& args, int64_t begin, int64_t end) {
  if (args.logits.dtype == DType::f64)
    statistics_of<double>(args, begin, end);
  else
    statistics_of<float>(args, begin, end);
}

void statistics_backward(const Arguments& args, int64_t begin, int64_t end) {
  if (args.logits.dtype == DType::f64)
    backward_of<double>(args, begin, end);
  else
    backward_of<float>(args, begin, end);
}

}  // namespace jml::JML_ISA
