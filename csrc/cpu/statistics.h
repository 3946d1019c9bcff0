// The CPU operators, as ops.cpp registers them.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <string>
#include <tuple>

namespace jml {

using torch::stable::Tensor;

// The arguments that all operators share, in the order of their schemas (jml_kernels/ops.py): labels,
// dense, mask, ce_class_weights; label_columns, dense_columns; activation; label_smoothing;
// boundary_size, ignore_index; teacher_temperature, student_temperature.
#define JML_RULE                                                                          \
  const std::optional<Tensor>&, const std::optional<Tensor>&, const std::optional<Tensor>&, \
      const std::optional<Tensor>&, int64_t, int64_t, const std::string&, double, int64_t, int64_t, \
      std::optional<double>, double

// See jml_kernels/reference.py for arguments and results.
template <typename... Rule>
struct Operators {
  static std::tuple<Tensor, Tensor, Tensor> statistics(const Tensor& logits, Rule... rule,
                                                       bool inplace_backward);
  static Tensor backward(const Tensor& grad_sums, const Tensor& grad_totals, const Tensor& logits,
                         Rule... rule);
  // Writes the gradient over the logits.
  static void backward_inplace(const Tensor& grad_sums, const Tensor& grad_totals,
                               const Tensor& logits, Rule... rule);
};
using CpuOperators = Operators<JML_RULE>;

// The instruction set that the kernels run with: "baseline", "avx2" or "avx512". The environment
// variable JML_CPU_ISA lowers it.
std::string cpu_instruction_set();

}  // namespace jml
