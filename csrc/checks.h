// Argument checks shared by CPU and CUDA launchers. Python has checked before with better words
// (jml_kernels/checks.py); these keep a direct call of an operator from reading outside.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <string>

namespace jml {

using torch::stable::Tensor;

inline std::string shape_of(const Tensor& tensor) {
  std::string text = "(";
  for (int64_t d = 0; d < tensor.dim(); ++d)
    text += (d ? ", " : "") + std::to_string(tensor.size(d));
  return text + ")";
}

inline void check_logits(const Tensor& logits) {
  STD_TORCH_CHECK(logits.dim() >= 2 && logits.dim() <= 5 && logits.size(1) > 0,
                  "logits has shape ", shape_of(logits),
                  ": expected (N, C, *spatial) with C > 0 and 0 to 3 spatial dimensions");
}

// A tensor beside the logits: (N, C, *spatial), or (N, *spatial) without classes.
inline void check_beside(const char* name, const Tensor& tensor, const Tensor& logits,
                         bool with_classes) {
  bool same = tensor.dim() == logits.dim() - !with_classes;
  for (int64_t d = 0; same && d < tensor.dim(); ++d)
    same = tensor.size(d) == logits.size(d == 0 || with_classes ? d : d + 1);
  STD_TORCH_CHECK(same, name, " has shape ", shape_of(tensor), ": does not fit logits of shape ",
                  shape_of(logits));
  STD_TORCH_CHECK(tensor.is_cpu() == logits.is_cpu() &&
                      tensor.get_device_index() == logits.get_device_index(),
                  name, " is on another device than the logits");
}

inline void check_one_target(const std::optional<Tensor>& labels,
                             const std::optional<Tensor>& dense) {
  STD_TORCH_CHECK(labels.has_value() != dense.has_value(),
                  "labels and dense: expected exactly one of them");
}

inline void check_grad_sums(const Tensor& grad_sums, const Tensor& logits, int64_t sums) {
  STD_TORCH_CHECK(grad_sums.scalar_type() == torch::headeronly::ScalarType::Double &&
                      grad_sums.is_contiguous() && grad_sums.dim() == 4 &&
                      grad_sums.size(0) == 1 && grad_sums.size(1) == sums &&
                      grad_sums.size(2) == logits.size(0) && grad_sums.size(3) == logits.size(1),
                  "grad_sums has shape ", shape_of(grad_sums),
                  ": expected contiguous float64 (1, ", sums, ", N, C)");
}

}  // namespace jml
