// What an operator is asked: where its tensors lie, and the options. Plain data, no PyTorch: the
// launchers make it (unpack.h), kernels of every device read it.
#pragma once

#include <cstdint>

#include "columns.h"
#include "pixel_math.h"

namespace jml {

enum class DType { f16, bf16, f32, f64, u8, i8, i16, i32, i64, u16, u32, u64 };
enum class Activation { softmax, sigmoid, none };

// A tensor (N, C, *spatial) or (N, *spatial) where it lies; strides in elements. Tensors without
// classes have class stride 0. Missing spatial dimensions come first and have size 1.
struct TensorView {
  bool given = false;  // an empty tensor is one, and has no data
  void* data = nullptr;
  DType dtype = DType::f32;
  int64_t image_stride = 0;
  int64_t class_stride = 0;
  int64_t spatial_stride[3] = {0, 0, 0};

  JML_MATH int64_t element_bytes() const {
    switch (dtype) {
      case DType::u8:
      case DType::i8: return 1;
      case DType::f16:
      case DType::bf16:
      case DType::i16:
      case DType::u16: return 2;
      case DType::f32:
      case DType::i32:
      case DType::u32: return 4;
      default: return 8;
    }
  }
};

// Calls visit(pointer of the view's type) for an integer dtype.
template <typename Visit>
JML_MATH void visit_integer(const TensorView& view, Visit visit) {
  switch (view.dtype) {
    case DType::u8: return visit(static_cast<uint8_t*>(view.data));
    case DType::i8: return visit(static_cast<int8_t*>(view.data));
    case DType::i16: return visit(static_cast<int16_t*>(view.data));
    case DType::i32: return visit(static_cast<int32_t*>(view.data));
    case DType::u16: return visit(static_cast<uint16_t*>(view.data));
    case DType::u32: return visit(static_cast<uint32_t*>(view.data));
    case DType::u64: return visit(static_cast<uint64_t*>(view.data));
    default: return visit(static_cast<int64_t*>(view.data));
  }
}

// Codes of labels: the label itself, kIgnored or kOutOfRange. Both are less than any label.
constexpr int32_t kIgnored = -1;
constexpr int32_t kOutOfRange = -2;

// A label as the kernels compare it. The upper half of uint64 is no int64, and counts as the largest
// of these: it must not wrap to a negative number, which could be ignore_index.
template <typename Source>
JML_MATH int64_t label_number(Source label) {
  if constexpr (std::is_same_v<Source, uint64_t>)
    return label > uint64_t(INT64_MAX) ? INT64_MAX : int64_t(label);
  else
    return int64_t(label);
}

// In place of an ignore_index, where nothing is ignored (jml_kernels/packing.py).
constexpr int64_t kNever = INT64_MIN;

JML_MATH int32_t label_code(int64_t label, int64_t ignore_index, int64_t label_count) {
  const int32_t in_range = uint64_t(label) < uint64_t(label_count) ? int32_t(label) : kOutOfRange;
  return label == ignore_index && label != kNever ? kIgnored : in_range;
}

struct Problem {
  TensorView logits;
  TensorView labels;  // integers, or none
  TensorView dense;   // probabilities, a teacher's logits, integers 0 and 1; or none
  TensorView mask;    // bytes, 0 where a pixel does not count, or none
  TensorView grad;    // backward: where the gradient goes, of the logits' dtype

  int64_t images = 0;
  int64_t classes = 0;
  int64_t spatial[3] = {1, 1, 1};
  int64_t pixels = 0;  // of an image

  // With upsample, the logits, and a teacher's as `dense`, may have lower spatial sizes than
  // `spatial`, each its own: pixels are interpolated linearly in each dimension, as by
  // torch.nn.functional.interpolate. Without, all of these sizes are `spatial`.
  bool upsample = false;
  bool align_corners = false;
  int64_t logits_spatial[3] = {1, 1, 1};
  int64_t dense_spatial[3] = {1, 1, 1};

  Columns label_columns, dense_columns;
  Activation activation = Activation::softmax;
  double label_smoothing = 0;
  int64_t boundary_size = 0;  // 0: every pixel is smoothed
  int64_t ignore_index = 0;
  bool teacher = false;
  double teacher_temperature = 1, student_temperature = 1;

  JML_MATH bool has_labels() const { return labels.given; }
  JML_MATH bool has_dense() const { return dense.given; }
  JML_MATH int targets() const { return int(has_labels()) + int(has_dense()); }
  JML_MATH const Columns& columns(int target) const {
    return has_labels() && target == 0 ? label_columns : dense_columns;
  }
  // One class that is not a softmax is a binary task: labels 0 and 1, y is the chance of 1.
  JML_MATH bool binary() const { return classes == 1 && activation != Activation::softmax; }
  JML_MATH bool independent() const { return activation == Activation::sigmoid || binary(); }
  JML_MATH bool integer_dense() const { return dense.given && dense.dtype >= DType::u8; }
  JML_MATH int64_t label_count() const { return binary() ? 2 : classes; }
  // Whether the dense target is one of probabilities, and not of integers or a teacher's logits.
  JML_MATH bool holds_probabilities() const {
    return dense.given && !integer_dense() && (!teacher || activation == Activation::none);
  }
  // Whether elements of the dense target that equal ignore_index are ignored one by one: of integers
  // always, of probabilities where it is none. Beside labels it is a label.
  JML_MATH bool ignores_elements() const {
    if (!dense.given || labels.given || teacher || ignore_index == kNever) return false;
    return integer_dense() || (ignore_index != 0 && ignore_index != 1);
  }
  // ignore_index as the dense target's dtype has it.
  JML_MATH double ignored_target() const {
    switch (dense.dtype) {
      case DType::f16: return to_float(to_half(float(ignore_index)));
      case DType::bf16: return to_float(to_bfloat(float(ignore_index)));
      case DType::f32: return float(ignore_index);
      default: return double(ignore_index);
    }
  }
};

// What is counted for metrics, beside the problem whose target is the labels.
struct TallyProblem {
  int64_t bins = 1;
  bool calibration = false, classwise = false;
};

}  // namespace jml
