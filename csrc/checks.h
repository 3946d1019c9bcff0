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

inline void check_device(const char* name, const Tensor& tensor, const Tensor& logits) {
  STD_TORCH_CHECK(tensor.is_cpu() == logits.is_cpu() &&
                      tensor.get_device_index() == logits.get_device_index(),
                  name, " is on another device than the logits");
}

// Whether pixels of a full size can be interpolated from those of another: not from none.
inline bool is_lower(int64_t size, int64_t full) { return size == full || (0 < size && size < full); }

// A tensor beside the logits: (N, C, *spatial), or (N, *spatial) without classes. Of three spatial
// sizes the last ones are meant; with may_be_lower the tensor's may be lower.
inline void check_beside(const char* name, const Tensor& tensor, const Tensor& logits,
                         bool with_classes, const int64_t spatial[3], bool may_be_lower = false) {
  bool fits = tensor.dim() == logits.dim() - !with_classes && tensor.size(0) == logits.size(0) &&
              (!with_classes || tensor.size(1) == logits.size(1));
  for (int64_t d = 1; fits && d <= logits.dim() - 2; ++d) {
    const int64_t size = tensor.size(tensor.dim() - d), full = spatial[3 - d];
    fits = may_be_lower ? is_lower(size, full) : size == full;
  }
  STD_TORCH_CHECK(fits, name, " has shape ", shape_of(tensor), ": does not fit logits of shape ",
                  shape_of(logits));
  check_device(name, tensor, logits);
}

inline void check_class_weights(const char* name, const Tensor& weights, const Tensor& logits) {
  STD_TORCH_CHECK(weights.dim() == 1 && weights.size(0) == logits.size(1), name, " has shape ",
                  shape_of(weights), ": expected (",
                  logits.size(1), ",), one for each class of logits");
}

// A list of packed options (packing.h).
inline void check_count(const char* name, size_t count, int64_t expected) {
  STD_TORCH_CHECK(int64_t(count) == expected, name, " has ", count, " numbers: expected ", expected);
}

// An option that travels as a number from 0 to `last`.
inline int64_t checked_index(const char* name, int64_t index, int64_t last) {
  STD_TORCH_CHECK(index >= 0 && index <= last, name, "=", index, ": expected 0 to ", last);
  return index;
}

inline void check_positive(const char* name, double value) {
  STD_TORCH_CHECK(value > 0, name, "=", value, ": expected a number > 0");
}

// Logits whose elements share no memory can hold their own gradient.
inline void check_not_expanded(const Tensor& logits) {
  for (int64_t d = 0; d < logits.dim(); ++d)
    STD_TORCH_CHECK(logits.stride(d) != 0 || logits.size(d) <= 1,
                    "logits is expanded: its memory cannot hold a gradient (inplace_backward)");
}

// A gradient of `rank` dimensions (targets, rows, N) or (targets, rows, N, C).
inline void check_gradient(const char* name, const Tensor& gradient, const Tensor& logits,
                           int64_t rank, int64_t targets, int64_t rows) {
  const int64_t expected[4] = {targets, rows, logits.size(0), logits.size(1)};
  bool fits = gradient.scalar_type() == torch::headeronly::ScalarType::Double &&
              gradient.is_contiguous() && gradient.dim() == rank;
  for (int64_t d = 0; fits && d < rank; ++d) fits = gradient.size(d) == expected[d];
  STD_TORCH_CHECK(fits, name, " has shape ", shape_of(gradient),
                  ": expected contiguous float64 (", targets, ", ", rows,
                  rank == 4 ? ", N, C)" : ", N)");
  check_device(name, gradient, logits);
}

}  // namespace jml
