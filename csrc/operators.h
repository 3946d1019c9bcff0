// The operators of a compiled backend, as jml_kernels/ops.py has their schemas. Their long lists of
// arguments stand here and nowhere else: a backend gets them as two structs.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <tuple>
#include <vector>

#include "checks.h"

namespace jml {

using torch::stable::Tensor;
using OptionalTensor = std::optional<Tensor>;
using Ints = std::vector<int64_t>;
using Floats = std::vector<double>;
using ThreeTensors = std::tuple<Tensor, Tensor, Tensor>;

// What every operator reads: see `statistics` in jml_kernels/reference.py, and packing.h for the
// lists.
struct Inputs {
  const Tensor& logits;
  const OptionalTensor &labels, &dense, &mask, &ce_class_weights;
  const Ints& ints;
  const Floats& floats;

  int64_t targets() const { return int64_t(labels.has_value()) + int64_t(dense.has_value()); }
};

// What an operator that finishes a loss reads beside that; `overlap` is the matrix, row by row.
struct FormulaInputs {
  const OptionalTensor &class_weights, &class_mask;
  const Ints& ints;
  const Floats &floats, &overlap;
};

// The loss that an operator returns: 0-dim, or one for each image; float64 for float64 logits.
inline Tensor new_loss(const Tensor& logits, bool of_images) {
  using torch::headeronly::ScalarType;
  const bool is_double = logits.scalar_type() == ScalarType::Double;
  const std::vector<int64_t> size = of_images ? std::vector{logits.size(0)} : std::vector<int64_t>{};
  return torch::stable::new_empty(logits, size,
                                  is_double ? ScalarType::Double : ScalarType::Float);
}

// What is counted for metrics (jml_kernels/tally.py).
struct TallyInputs {
  const Tensor &logits, &labels;
  const OptionalTensor& mask;
  const Ints& ints;  // TallyInts
};
using FiveTensors = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

// The gradients of sums and totals, and what they are multiplied with: a number, or one for each
// image.
struct GradientInputs {
  const Tensor &sums, &totals;
  const OptionalTensor& scale;
};

// A backend has four functions:
//     ThreeTensors statistics(const Inputs&)                      sums, extrema, totals
//     ThreeTensors loss(const Inputs&, const FormulaInputs&)      loss, grad_sums, grad_totals
//     Tensor new_gradient(const Tensor& logits)                   memory for the gradient
//     void write_gradient(const GradientInputs&, const Inputs&, const Tensor& grad)
// and one that counts for metrics may have a fifth
//     FiveTensors tally(const TallyInputs&)       of_images, confusion, calibration, classwise, wrong
template <typename Backend>
struct Operators {
  static ThreeTensors statistics(const Tensor& logits, const OptionalTensor& labels,
                                 const OptionalTensor& dense, const OptionalTensor& mask,
                                 const OptionalTensor& ce_class_weights, const Ints& target_ints,
                                 const Floats& target_floats, bool /*inplace_backward*/) {
    return Backend::statistics(
        {logits, labels, dense, mask, ce_class_weights, target_ints, target_floats});
  }

  static ThreeTensors loss(const Tensor& logits, const OptionalTensor& labels,
                           const OptionalTensor& dense, const OptionalTensor& mask,
                           const OptionalTensor& ce_class_weights, const Ints& target_ints,
                           const Floats& target_floats, const OptionalTensor& class_weights,
                           const OptionalTensor& class_mask, const Ints& formula_ints,
                           const Floats& formula_floats, const Floats& overlap,
                           bool /*inplace_backward*/) {
    return Backend::loss(
        {logits, labels, dense, mask, ce_class_weights, target_ints, target_floats},
        {class_weights, class_mask, formula_ints, formula_floats, overlap});
  }

  static Tensor backward(const Tensor& grad_sums, const Tensor& grad_totals, const Tensor& logits,
                         const OptionalTensor& labels, const OptionalTensor& dense,
                         const OptionalTensor& mask, const OptionalTensor& ce_class_weights,
                         const Ints& target_ints, const Floats& target_floats,
                         const OptionalTensor& scale) {
    const Tensor grad = Backend::new_gradient(logits);
    Backend::write_gradient(
        {grad_sums, grad_totals, scale},
        {logits, labels, dense, mask, ce_class_weights, target_ints, target_floats}, grad);
    return grad;
  }

  // Writes the gradient over the logits.
  static void backward_inplace(const Tensor& grad_sums, const Tensor& grad_totals,
                               const Tensor& logits, const OptionalTensor& labels,
                               const OptionalTensor& dense, const OptionalTensor& mask,
                               const OptionalTensor& ce_class_weights, const Ints& target_ints,
                               const Floats& target_floats, const OptionalTensor& scale) {
    check_not_expanded(logits);
    Backend::write_gradient(
        {grad_sums, grad_totals, scale},
        {logits, labels, dense, mask, ce_class_weights, target_ints, target_floats}, logits);
  }

  static FiveTensors tally(const Tensor& logits, const Tensor& labels, const OptionalTensor& mask,
                           const Ints& tally_ints) {
    return Backend::tally({logits, labels, mask, tally_ints});
  }
};

}  // namespace jml

// Registers the operators of a backend under its name.
#define JML_REGISTER(library, name, Backend)                                                   \
  library.impl(name "_statistics", TORCH_BOX(&jml::Operators<Backend>::statistics));           \
  library.impl(name "_loss", TORCH_BOX(&jml::Operators<Backend>::loss));                       \
  library.impl(name "_statistics_backward", TORCH_BOX(&jml::Operators<Backend>::backward));    \
  library.impl(name "_statistics_backward_", TORCH_BOX(&jml::Operators<Backend>::backward_inplace))

// And that which counts for metrics.
#define JML_REGISTER_TALLY(library, name, Backend) \
  library.impl(name "_tally", TORCH_BOX(&jml::Operators<Backend>::tally))
