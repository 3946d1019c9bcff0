// What the launcher (statistics.cpp) hands to the kernels (kernel.h): plain data, no PyTorch.
#pragma once

#include <cstdint>

#include "../columns.h"

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

  int64_t element_bytes() const {
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

struct Arguments {
  TensorView logits;
  TensorView labels;  // integers, or none
  TensorView dense;   // probabilities, a teacher's logits, integers 0 and 1; or none
  TensorView mask;    // bytes, 0 where a pixel does not count, or none
  TensorView grad;    // backward: where the gradient goes, of the logits' dtype

  int64_t images = 0;
  int64_t classes = 0;
  int64_t spatial[3] = {1, 1, 1};
  int64_t pixels = 0;  // of an image

  Columns label_columns, dense_columns;
  Activation activation = Activation::softmax;
  double label_smoothing = 0;
  int64_t boundary_size = 0;  // 0: every pixel is smoothed
  int64_t ignore_index = 0;
  const double* ce_class_weights = nullptr;  // of the first target's cross-entropy, or null for 1
  bool teacher = false;
  double teacher_temperature = 1, student_temperature = 1;

  // Work is cut the same way whatever the number of threads: an image into chunks, a chunk into
  // tiles. The sums of a chunk are its own, and are added in order.
  int64_t tile_pixels = 0;
  int64_t tiles_per_chunk = 0;
  int64_t chunks_per_image = 0;

  // Forward, for each chunk: `partial_size` numbers, and the position of the first label out of
  // range, in pixels or, for a dense target, in elements of the image; -1 if there is none.
  double* partial = nullptr;
  int64_t* bad_label = nullptr;
  // Backward, for each target: gradients of the sums, (kSums, images, classes), and of the totals,
  // (kTotals, images); whether the gradient is too large to find in a cache later, and had better
  // go past them.
  const double *grad_sums = nullptr, *grad_totals = nullptr;
  bool stream_gradient = false;

  bool has_labels() const { return labels.given; }
  bool has_dense() const { return dense.given; }
  int targets() const { return int(has_labels()) + int(has_dense()); }
  const Columns& columns(int target) const {
    return has_labels() && target == 0 ? label_columns : dense_columns;
  }
  // Partial sums of a chunk: those of each target, one behind the other.
  int64_t partial_offset(int target) const {
    return target == 0 ? 0 : columns(0).size(classes);
  }
  int64_t partial_size() const {
    return partial_offset(targets() - 1) + columns(targets() - 1).size(classes);
  }
  // One class that is not a softmax is a binary task: labels 0 and 1, y is the chance of 1.
  bool binary() const { return classes == 1 && activation != Activation::softmax; }
  bool independent() const { return activation == Activation::sigmoid || binary(); }
  // Whether a cross-entropy needs other numbers than the softmax of the logits: of another
  // activation, or at another temperature.
  bool separate_dense_entropy() const {
    return activation != Activation::softmax || student_temperature != 1;
  }
  bool separate_entropy() const {
    const bool of_labels = has_labels() && label_columns.wants(kCrossEntropy);
    const bool of_dense = has_dense() && dense_columns.wants(kCrossEntropy);
    return (of_labels && activation != Activation::softmax) ||
           (of_dense && separate_dense_entropy());
  }
  // Whether the dense target, times the weights of its cross-entropy, adds up to 1 in a pixel.
  bool unit_share() const { return teacher && (has_labels() || !ce_class_weights); }
  bool integer_dense() const { return dense.given && dense.dtype >= DType::u8; }
  int64_t label_count() const { return binary() ? 2 : classes; }
};

// Process chunks [begin, end) of images * chunks_per_image; one pair for each instruction set.
#define JML_DECLARE_KERNELS(isa)                                        \
  namespace isa {                                                       \
  void statistics(const Arguments&, int64_t begin, int64_t end);        \
  void statistics_backward(const Arguments&, int64_t begin, int64_t end); \
  }
JML_DECLARE_KERNELS(baseline)
JML_DECLARE_KERNELS(avx2)
JML_DECLARE_KERNELS(avx512)
#undef JML_DECLARE_KERNELS

}  // namespace jml
