// From the arguments of an operator to a problem and a formula, checked. Shared by the launchers of
// every device: nothing here reads a tensor's memory.
#pragma once

#include <algorithm>

#include "checks.h"
#include "formula.h"
#include "operators.h"
#include "packing.h"
#include "problem.h"

namespace jml {

using torch::headeronly::ScalarType;

inline DType dtype_of(const char* name, const Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case ScalarType::Half: return DType::f16;
    case ScalarType::BFloat16: return DType::bf16;
    case ScalarType::Float: return DType::f32;
    case ScalarType::Double: return DType::f64;
    case ScalarType::Bool:
    case ScalarType::Byte: return DType::u8;
    case ScalarType::Char: return DType::i8;
    case ScalarType::Short: return DType::i16;
    case ScalarType::Int: return DType::i32;
    case ScalarType::Long: return DType::i64;
    case ScalarType::UInt16: return DType::u16;
    case ScalarType::UInt32: return DType::u32;
    case ScalarType::UInt64: return DType::u64;
    default: STD_TORCH_CHECK(false, name, " has a dtype that the kernels do not take");
  }
}

inline TensorView view_of(const char* name, const Tensor& tensor, bool with_classes) {
  TensorView view;
  view.given = true;
  view.data = tensor.data_ptr();
  view.dtype = dtype_of(name, tensor);
  view.image_stride = tensor.stride(0);
  view.class_stride = with_classes ? tensor.stride(1) : 0;
  const int64_t spatial = tensor.dim() - (with_classes ? 2 : 1);
  for (int64_t d = 0; d < spatial; ++d)
    view.spatial_stride[3 - spatial + d] = tensor.stride(tensor.dim() - spatial + d);
  return view;
}

// Of float32 or float64, one number for each class; 1 where there is none.
inline ClassWeights weights_of(const char* name, const std::optional<Tensor>& given,
                               const Tensor& logits) {
  if (!given) return {};
  const ScalarType dtype = given->scalar_type();
  STD_TORCH_CHECK(dtype == ScalarType::Float || dtype == ScalarType::Double, name,
                  " has another dtype than float32 or float64");
  check_device(name, *given, logits);
  // One number alone is that of every class, or of every image.
  return {given->data_ptr(), dtype == ScalarType::Double,
          given->numel() == 1 ? 0 : given->stride(0)};
}

inline ClassMask mask_of_classes(const std::optional<Tensor>& given, const Tensor& logits) {
  if (!given) return {};
  check_class_weights("class_mask", *given, logits);
  STD_TORCH_CHECK(given->scalar_type() == ScalarType::Bool,
                  "class_mask has another dtype than bool");
  check_device("class_mask", *given, logits);
  return {static_cast<const uint8_t*>(given->data_ptr()), given->stride(0)};
}

// The last `count` sizes of a tensor, as the last of three; missing ones are 1.
inline void set_sizes(int64_t sizes[3], const Tensor& tensor, int64_t count) {
  for (int64_t d = 1; d <= std::min(count, tensor.dim()); ++d)
    sizes[3 - d] = tensor.size(tensor.dim() - d);
}

// The sizes of logits and dense target, and that of the pixels (upsampling.full_size in Python).
inline void set_spatial_sizes(Problem& problem, const Inputs& inputs) {
  const auto& [logits, labels, dense, mask, ce_class_weights, ints, floats] = inputs;
  const int64_t count = logits.dim() - 2;
  problem.upsample = ints[TargetInts::upsample] != 0;
  problem.align_corners = ints[TargetInts::align_corners] != 0;
  STD_TORCH_CHECK(!problem.upsample || count > 0,
                  "upsample=1: expected logits with spatial dimensions");
  set_sizes(problem.logits_spatial, logits, count);
  if (dense) set_sizes(problem.dense_spatial, *dense, count);
  if (problem.upsample && labels)
    set_sizes(problem.spatial, *labels, count);
  else
    for (int64_t d = 0; d < 3; ++d)
      problem.spatial[d] = problem.upsample
                               ? std::max(problem.logits_spatial[d], problem.dense_spatial[d])
                               : problem.logits_spatial[d];
  for (int64_t d = 0; d < 3; ++d)
    STD_TORCH_CHECK(is_lower(problem.logits_spatial[d], problem.spatial[d]), "logits has shape ",
                    shape_of(logits), ": expected no spatial size above the target's, nor 0");
  problem.pixels = problem.spatial[0] * problem.spatial[1] * problem.spatial[2];
}

// For launchers whose kernels do not interpolate; Python does it before (dispatch.py).
inline void refuse_upsampling(const Problem& problem) {
  STD_TORCH_CHECK(!problem.upsample, "upsample=1: expected 0, since this backend does not "
                                     "interpolate logits");
}

// Fills `problem`, but for the gradient and the weights of the cross-entropy, which each device reads
// its own way.
inline void set_problem(Problem& problem, const Inputs& inputs) {
  const auto& [logits, labels, dense, mask, ce_class_weights, ints, floats] = inputs;
  check_logits(logits);
  check_count("target_ints", ints.size(), TargetInts::count);
  check_count("target_floats", floats.size(), TargetFloats::count);
  const double teacher_temperature = floats[TargetFloats::teacher_temperature];
  STD_TORCH_CHECK(labels || dense, "labels and dense: expected at least one of them");
  // A temperature of 0 says that the dense target holds no logits.
  problem.teacher = dense && teacher_temperature != 0;
  set_spatial_sizes(problem, inputs);
  const int64_t* spatial = problem.spatial;
  problem.logits = view_of("logits", logits, true);
  STD_TORCH_CHECK(problem.logits.dtype < DType::u8, "logits has an integer dtype");
  if (labels) {
    check_beside("labels", *labels, logits, false, spatial);
    problem.labels = view_of("labels", *labels, false);
    STD_TORCH_CHECK(problem.labels.dtype >= DType::u8, "labels has a floating dtype");
  }
  if (dense) {
    check_beside("dense", *dense, logits, true, spatial, problem.upsample && problem.teacher);
    problem.dense = view_of("dense", *dense, true);
    STD_TORCH_CHECK(!problem.integer_dense() || (!labels && teacher_temperature == 0),
                    "dense has an integer dtype: expected a floating one beside labels and for a "
                    "teacher");
  }
  if (mask) {
    check_beside("mask", *mask, logits, false, spatial);
    problem.mask = view_of("mask", *mask, false);
    STD_TORCH_CHECK(problem.mask.dtype == DType::u8, "mask has another dtype than bool");
  }
  if (ce_class_weights) check_class_weights("ce_class_weights", *ce_class_weights, logits);
  problem.label_columns = {ints[TargetInts::label_columns]};
  problem.dense_columns = {ints[TargetInts::dense_columns]};
  problem.teacher_temperature = problem.teacher ? teacher_temperature : 1;
  problem.student_temperature = floats[TargetFloats::student_temperature];
  check_positive("teacher_temperature", problem.teacher_temperature);
  check_positive("student_temperature", problem.student_temperature);
  problem.images = logits.size(0);
  problem.classes = logits.size(1);
  problem.activation = Activation(
      checked_index("activation", ints[TargetInts::activation], int64_t(Activation::none)));
  STD_TORCH_CHECK(problem.activation != Activation::softmax || !problem.integer_dense(),
                  "dense has an integer dtype: expected a floating one with activation='softmax'");
  problem.label_smoothing = floats[TargetFloats::label_smoothing];
  STD_TORCH_CHECK(problem.label_smoothing >= 0 && problem.label_smoothing <= 1,
                  "label_smoothing=", problem.label_smoothing, ": expected a number in [0, 1]");
  const int64_t boundary_size = ints[TargetInts::boundary_size];
  STD_TORCH_CHECK(boundary_size == 0 || (boundary_size > 0 && boundary_size % 2 == 1),
                  "boundary_size=", boundary_size, ": expected 0 or an odd positive integer");
  const int64_t longest = *std::max_element(spatial, spatial + 3);
  // A wider window than one that always holds the image holds no more.
  problem.boundary_size = std::min(boundary_size, 2 * longest + 1);
  problem.ignore_index = ints[TargetInts::ignore_index];
}

// A tally as what the losses' operators are asked for: the same logits and labels, with a softmax.
struct TallyTarget {
  Ints ints;
  Floats floats;
  OptionalTensor labels, none;

  explicit TallyTarget(const TallyInputs& inputs)
      : ints(TargetInts::count), floats(TargetFloats::count), labels(inputs.labels) {
    const Ints& given = inputs.ints;
    check_count("tally_ints", given.size(), TallyInts::count);
    STD_TORCH_CHECK(Activation(given[TallyInts::activation]) == Activation::softmax, "activation=",
                    given[TallyInts::activation], ": expected 0, a softmax, which kernels count");
    const int64_t bins = given[TallyInts::bins], classes = inputs.logits.size(1);
    STD_TORCH_CHECK(bins > 0 && bins <= INT32_MAX / std::max<int64_t>(classes, 2), "bins=", bins,
                    ": expected a positive number that is not too large");
    ints[TargetInts::boundary_size] = given[TallyInts::boundary_size];
    ints[TargetInts::ignore_index] = given[TallyInts::ignore_index];
    ints[TargetInts::upsample] = given[TallyInts::upsample];
    ints[TargetInts::align_corners] = given[TallyInts::align_corners];
    floats[TargetFloats::student_temperature] = 1;
  }

  Inputs inputs(const TallyInputs& given) const {
    return {given.logits, labels, none, given.mask, none, ints, floats};
  }
};

// Fills `problem` as that of a softmax against labels.
inline TallyProblem set_tally_problem(Problem& problem, const TallyInputs& inputs) {
  const TallyTarget target(inputs);
  set_problem(problem, target.inputs(inputs));
  const Ints& ints = inputs.ints;
  return {ints[TallyInts::bins], ints[TallyInts::calibration] != 0, ints[TallyInts::classwise] != 0};
}

// A formula, and the terms of labels and of a dense target.
struct FormulaOfTerms {
  Formula formula;
  Term of_labels, of_dense;

  const Term& of_target(bool has_labels, int64_t target) const {
    return has_labels && target == 0 ? of_labels : of_dense;
  }
};

inline FormulaOfTerms formula_of(const Tensor& logits, const FormulaInputs& inputs) {
  const auto& [class_weights, class_mask, ints, floats, overlap] = inputs;
  check_count("formula_ints", ints.size(), FormulaInts::count);
  check_count("formula_floats", floats.size(), FormulaFloats::count);
  check_count("overlap", overlap.size(), kCounts * kSums);
  if (class_weights) check_class_weights("class_weights", *class_weights, logits);
  FormulaOfTerms result;
  Formula& formula = result.formula;
  std::copy(overlap.begin(), overlap.end(), &formula.overlap[0][0]);
  formula.alpha = floats[FormulaFloats::alpha];
  formula.beta = floats[FormulaFloats::beta];
  formula.gamma = floats[FormulaFloats::gamma];
  formula.smooth_numerator = floats[FormulaFloats::smooth_numerator];
  formula.smooth_denominator = floats[FormulaFloats::smooth_denominator];
  formula.index_floor = floats[FormulaFloats::index_floor];
  formula.log_loss = ints[FormulaInts::log_loss] != 0;
  formula.dataset = floats[FormulaFloats::dataset];
  formula.image = floats[FormulaFloats::image];
  formula.per_class = floats[FormulaFloats::per_class];
  formula.threshold = floats[FormulaFloats::active_threshold];
  formula.has_inactive_loss = ints[FormulaInts::has_inactive_loss] != 0;
  formula.inactive_loss = floats[FormulaFloats::inactive_loss];
  formula.weighted_mean = ints[FormulaInts::weighted_mean] != 0;
  formula.reduction = Reduction(
      checked_index("reduction", ints[FormulaInts::reduction], int64_t(Reduction::image)));
  formula.class_weights = weights_of("class_weights", class_weights, logits);
  formula.class_mask = mask_of_classes(class_mask, logits);
  const auto active = [&](const char* name, int place) {
    return Active(checked_index(name, inputs.ints[place], int64_t(Active::counted)));
  };
  result.of_labels = {floats[FormulaFloats::label_ce_weight],
                      floats[FormulaFloats::label_overlap_weight],
                      active("label_active", FormulaInts::label_active), false};
  result.of_dense = {floats[FormulaFloats::dense_ce_weight],
                     floats[FormulaFloats::dense_overlap_weight],
                     active("dense_active", FormulaInts::dense_active),
                     ints[FormulaInts::is_divergence] != 0};
  return result;
}

inline void check_gradients(const GradientInputs& gradients, const Inputs& inputs) {
  check_gradient("grad_sums", gradients.sums, inputs.logits, 4, inputs.targets(), kSums);
  check_gradient("grad_totals", gradients.totals, inputs.logits, 3, inputs.targets(), kTotals);
  const OptionalTensor& scale = gradients.scale;
  STD_TORCH_CHECK(!scale || scale->numel() == 1 ||
                      (scale->dim() == 1 && scale->numel() == inputs.logits.size(0)),
                  "scale: expected one number, or one for each image");
}

}  // namespace jml
