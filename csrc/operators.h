// The operators of a compiled backend, as jml_kernels/ops.py has their schemas. A backend defines
// the members once, for its own tag, and registers them.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <string>
#include <tuple>

namespace jml {

using torch::stable::Tensor;

// The types of the arguments that all operators share, in the order of their schemas:
//     labels, dense, mask, ce_class_weights
//     label_columns, dense_columns, activation, label_smoothing
//     boundary_size, ignore_index, teacher_temperature, student_temperature
#define JML_RULE                                                                            \
  const std::optional<Tensor>&, const std::optional<Tensor>&, const std::optional<Tensor>&, \
      const std::optional<Tensor>&, int64_t, int64_t, const std::string&, double, int64_t,  \
      int64_t, std::optional<double>, double
// Those of the formula, which follow them in operators that finish a loss:
//     class_weights, overlap, alpha, beta, gamma, smooth, log_loss, dataset, image, per_class
//     active_threshold, label_active, dense_active, label_ce, dense_ce
//     label_overlap, dense_overlap, divergence
#define JML_FORMULA                                                                            \
  const std::optional<Tensor>&class_weights, const std::string &overlap, double alpha,         \
      double beta, double gamma, double smooth, bool log_loss, double dataset, double image,   \
      double per_class, double active_threshold, const std::string &label_active,              \
      const std::string &dense_active, double label_ce, double dense_ce, double label_overlap, \
      double dense_overlap, bool divergence

// See jml_kernels/reference.py for arguments and results.
template <typename Backend, typename... Rule>
struct Operators {
  static std::tuple<Tensor, Tensor, Tensor> statistics(const Tensor& logits, Rule... rule,
                                                       bool inplace_backward);
  // (loss, grad_sums, grad_totals): the formula on the statistics, jml_kernels/formulas.py.
  static std::tuple<Tensor, Tensor, Tensor> loss(const Tensor& logits, Rule... rule, JML_FORMULA,
                                                 bool inplace_backward);
  // Gradients are multiplied with `scale`, 0-dim, if it is given.
  static Tensor backward(const Tensor& grad_sums, const Tensor& grad_totals, const Tensor& logits,
                         Rule... rule, const std::optional<Tensor>& scale);
  // Writes the gradient over the logits.
  static void backward_inplace(const Tensor& grad_sums, const Tensor& grad_totals,
                               const Tensor& logits, Rule... rule,
                               const std::optional<Tensor>& scale);
};

}  // namespace jml
