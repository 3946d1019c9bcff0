// From the arguments of an operator to a problem and a formula, checked. Shared by the launchers of
// every device: nothing here reads a tensor's memory.
#pragma once

#include <algorithm>

#include "checks.h"
#include "formula.h"
#include "operators.h"
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
  return {given->data_ptr(), dtype == ScalarType::Double, given->dim() ? given->stride(0) : 0};
}

// Fills `problem`, but for the gradient.
inline void set_problem(Problem& problem, const Tensor& logits,
                        const std::optional<Tensor>& labels, const std::optional<Tensor>& dense,
                        const std::optional<Tensor>& mask,
                        const std::optional<Tensor>& ce_class_weights, int64_t label_columns,
                        int64_t dense_columns, const std::string& activation,
                        double label_smoothing, int64_t boundary_size, int64_t ignore_index,
                        std::optional<double> teacher_temperature, double student_temperature) {
  check_logits(logits);
  STD_TORCH_CHECK(labels || dense, "labels and dense: expected at least one of them");
  problem.logits = view_of("logits", logits, true);
  STD_TORCH_CHECK(problem.logits.dtype < DType::u8, "logits has an integer dtype");
  if (labels) {
    check_beside("labels", *labels, logits, false);
    problem.labels = view_of("labels", *labels, false);
    STD_TORCH_CHECK(problem.labels.dtype >= DType::u8, "labels has a floating dtype");
  }
  if (dense) {
    check_beside("dense", *dense, logits, true);
    problem.dense = view_of("dense", *dense, true);
    STD_TORCH_CHECK(!problem.integer_dense() || (!labels && !teacher_temperature),
                    "dense has an integer dtype: expected a floating one beside labels and for a "
                    "teacher");
  }
  if (mask) {
    check_beside("mask", *mask, logits, false);
    problem.mask = view_of("mask", *mask, false);
    STD_TORCH_CHECK(problem.mask.dtype == DType::u8, "mask has another dtype than bool");
  }
  if (ce_class_weights) check_class_weights("ce_class_weights", *ce_class_weights, logits);
  problem.label_columns = {label_columns};
  problem.dense_columns = {dense_columns};
  problem.teacher = dense && teacher_temperature;
  problem.teacher_temperature = teacher_temperature.value_or(1);
  problem.student_temperature = student_temperature;
  check_positive("teacher_temperature", problem.teacher_temperature);
  check_positive("student_temperature", student_temperature);
  problem.images = logits.size(0);
  problem.classes = logits.size(1);
  problem.pixels = 1;
  int64_t longest = 1;
  for (int64_t d = 2; d < logits.dim(); ++d) {
    problem.spatial[3 - (logits.dim() - d)] = logits.size(d);
    problem.pixels *= logits.size(d);
    longest = std::max(longest, logits.size(d));
  }
  STD_TORCH_CHECK(activation == "softmax" || activation == "sigmoid" || activation == "none",
                  "activation='", activation, "': expected 'softmax', 'sigmoid' or 'none'");
  problem.activation = activation == "softmax"   ? Activation::softmax
                       : activation == "sigmoid" ? Activation::sigmoid
                                                 : Activation::none;
  STD_TORCH_CHECK(problem.activation != Activation::softmax || !problem.integer_dense(),
                  "dense has an integer dtype: expected a floating one with activation='softmax'");
  STD_TORCH_CHECK(label_smoothing >= 0 && label_smoothing <= 1,
                  "label_smoothing=", label_smoothing, ": expected a number in [0, 1]");
  STD_TORCH_CHECK(boundary_size == 0 || (boundary_size > 0 && boundary_size % 2 == 1),
                  "boundary_size=", boundary_size, ": expected 0 or an odd positive integer");
  problem.label_smoothing = label_smoothing;
  // A wider window than one that always holds the image holds no more.
  problem.boundary_size = std::min(boundary_size, 2 * longest + 1);
  problem.ignore_index = ignore_index;
}

inline OverlapKind overlap_kind(const std::string& name) {
  if (name == "metric1") return OverlapKind::metric1;
  if (name == "metric2") return OverlapKind::metric2;
  if (name == "soft1") return OverlapKind::soft1;
  STD_TORCH_CHECK(name == "soft2", "overlap='", name,
                  "': expected 'metric1', 'metric2', 'soft1' or 'soft2'");
  return OverlapKind::soft2;
}

inline Active active_mode(const char* name, const std::string& mode) {
  if (mode == "all") return Active::all;
  if (mode == "present") return Active::present;
  if (mode == "label") return Active::label;
  if (mode == "prob") return Active::prob;
  STD_TORCH_CHECK(mode == "both", name, "='", mode,
                  "': expected 'all', 'present', 'label', 'prob' or 'both'");
  return Active::both;
}

// A formula and the terms of labels and of a dense target; but for the weights of classes, which
// each device reads its own way.
struct FormulaCall {
  Formula formula;
  Term of_labels, of_dense;
};

inline FormulaCall formula_call(const Tensor& logits, JML_FORMULA) {
  if (class_weights) check_class_weights("class_weights", *class_weights, logits);
  return {{overlap_kind(overlap), alpha, beta, gamma, smooth, log_loss, dataset, image, per_class,
           active_threshold},
          {label_ce, label_overlap, active_mode("label_active", label_active), false},
          {dense_ce, dense_overlap, active_mode("dense_active", dense_active), divergence}};
}

inline void check_gradients(const Tensor& grad_sums, const Tensor& grad_totals,
                            const Tensor& logits, int64_t targets,
                            const std::optional<Tensor>& scale) {
  check_gradient("grad_sums", grad_sums, logits, 4, targets, kSums);
  check_gradient("grad_totals", grad_totals, logits, 3, targets, kTotals);
  STD_TORCH_CHECK(!scale || scale->numel() == 1, "scale: expected one number");
}

inline void check_not_expanded(const Tensor& logits) {
  for (int64_t d = 0; d < logits.dim(); ++d)
    STD_TORCH_CHECK(logits.stride(d) != 0 || logits.size(d) <= 1,
                    "logits is expanded: its memory cannot hold a gradient (inplace_backward)");
}

}  // namespace jml
