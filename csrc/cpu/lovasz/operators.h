// The operators of the Lovász losses on the CPU (jml_kernels/lovasz/operators.py).
#pragma once

#include "../../operators.h"

namespace jml {

using TwoTensors = std::tuple<Tensor, Tensor>;

// Values and label counts, float64 (groups, C), and slopes by the probabilities.
ThreeTensors lovasz(const Tensor& logits, const Tensor& labels, const OptionalTensor& mask,
                    int64_t ignore_index, const Ints& classes, bool only_present, bool per_image,
                    bool align_corners, bool with_slopes, bool inplace_backward);

// The gradient of the logits, written over the slopes: that of the statistics against them as a
// dense target (write_gradient in ../operators.h).
void lovasz_backward_inplace(const Tensor& grad_sums, const Tensor& grad_totals,
                             const Tensor& logits, const Tensor& slopes, const Tensor& counted,
                             const Ints& target_ints, const Floats& target_floats);

// Value and slopes of one class by its errors, contiguous (groups, pixels).
TwoTensors lovasz_extension(const Tensor& errors, const Tensor& is_label, const Tensor& counted);

}  // namespace jml
