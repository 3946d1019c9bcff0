// The CPU operators, as ops.cpp registers them.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <string>
#include <tuple>

namespace jml {

using torch::stable::Tensor;

// See jml_kernels/reference.py for arguments and results.
std::tuple<Tensor, Tensor, Tensor> cpu_statistics(
    const Tensor& logits, const std::optional<Tensor>& labels, const std::optional<Tensor>& dense,
    const std::optional<Tensor>& mask, int64_t columns, const std::string& activation,
    double label_smoothing, int64_t boundary_size, int64_t ignore_index, bool inplace_backward);

Tensor cpu_statistics_backward(const Tensor& grad_sums, const Tensor& logits,
                               const std::optional<Tensor>& labels,
                               const std::optional<Tensor>& dense,
                               const std::optional<Tensor>& mask, int64_t columns,
                               const std::string& activation, double label_smoothing,
                               int64_t boundary_size, int64_t ignore_index);

// Writes the gradient over the logits.
void cpu_statistics_backward_inplace(const Tensor& grad_sums, const Tensor& logits,
                                     const std::optional<Tensor>& labels,
                                     const std::optional<Tensor>& dense,
                                     const std::optional<Tensor>& mask, int64_t columns,
                                     const std::string& activation, double label_smoothing,
                                     int64_t boundary_size, int64_t ignore_index);

// The instruction set that the kernels run with: "baseline", "avx2" or "avx512". The environment
// variable JML_CPU_ISA lowers it.
std::string cpu_instruction_set();

}  // namespace jml
