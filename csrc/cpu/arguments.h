// What the launchers (launch.h) hand to the kernels (kernel.h).
#pragma once

#include "../problem.h"
#include "upsample/cells.h"
#include "upsampling.h"

namespace jml {

// Calls visit(pointer of the view's element type).
template <typename Visit>
JML_MATH void visit_dtype(const TensorView& view, Visit visit) {
  switch (view.dtype) {
    case DType::f16: return visit(static_cast<half_bits*>(view.data));
    case DType::bf16: return visit(static_cast<bfloat_bits*>(view.data));
    case DType::f32: return visit(static_cast<float*>(view.data));
    case DType::f64: return visit(static_cast<double*>(view.data));
    default: return visit_integer(view, visit);
  }
}

// Positions of the first faults, in elements of an image (C, *spatial), or pixels of labels.
struct Faults {
  static constexpr int64_t kNone = INT64_MAX;

  int64_t label = kNone;   // labels and integer targets: out of range
  int64_t dense = kNone;   // a dense target: no probability
  int64_t logits = kNone;  // logits without an activation: no probability
};

// How an image is cut where logits are interpolated. A chunk is that part of each plane which lies
// between `low_per_chunk` + 1 low rows, the last one being the first of the next chunk. A tile holds
// some of its rows, or a part of one; where pixels are taken by cells (upsample/kernel.h) there are
// no tiles, and the first cell lies between low rows -1 and 0.
struct RowCut {
  int64_t low_per_chunk = 0;
  int64_t low_of_first = 0;
  const int64_t* first = nullptr;  // chunks_per_image + 1: the first full row of a chunk
  int64_t per_tile = 1;
  int64_t tiles_per_row = 1;       // where per_tile is 1

  // The first low row of a chunk but the first one.
  int64_t first_low(int64_t chunk) const { return chunk * low_per_chunk + low_of_first; }
};

struct Arguments : Problem {
  const double* ce_class_weights = nullptr;  // of the first target's cross-entropy, or null for 1

  // Work is cut the same way whatever the number of threads: an image into chunks, a chunk into
  // tiles. The sums of a chunk are its own, and are added in order.
  int64_t tile_pixels = 0;
  int64_t tiles_per_chunk = 0;
  int64_t chunks_per_image = 0;

  // With upsample: how the logits and the dense target are interpolated, null where they have the
  // full size. Chunks and tiles then consist of rows.
  const Upsampling *logits_upsampling = nullptr, *dense_upsampling = nullptr;
  const Cells* cells = nullptr;  // of the rows, where pixels are taken by cells
  RowCut rows;
  // Backward, where the logits are interpolated: room for the low rows that two chunks share.
  void* shared_rows = nullptr;

  // Forward, for each chunk: `partial_size` numbers, and the first faults.
  double* partial = nullptr;
  Faults* faults = nullptr;
  // By cells, for each chunk: whether it has logits that only tiles can take.
  uint8_t* unfit = nullptr;
  // Backward, for each target: gradients of the sums, (kSums, images, classes), and of the totals,
  // (kTotals, images); whether the gradient is too large to find in a cache later, and had better
  // go past them.
  const double *grad_sums = nullptr, *grad_totals = nullptr;
  bool stream_gradient = false;

  // Partial sums of a chunk: those of each target, one behind the other.
  int64_t partial_offset(int target) const {
    return target == 0 ? 0 : columns(0).size(classes);
  }
  int64_t partial_size() const {
    return partial_offset(targets() - 1) + columns(targets() - 1).size(classes);
  }
  // Whether a cross-entropy needs other numbers than the softmax of the logits: of another
  // activation, or at another temperature.
  bool separate_dense_entropy() const {
    return activation != Activation::softmax || student_temperature != 1;
  }
  bool separate_entropy() const {
    const bool of_labels = has_labels() && label_columns.requested(kCrossEntropy);
    const bool of_dense = has_dense() && dense_columns.requested(kCrossEntropy);
    return (of_labels && activation != Activation::softmax) ||
           (of_dense && separate_dense_entropy());
  }
  // Whether the target mass of the dense target, its sum with the weights of its cross-entropy, is
  // 1 in each pixel.
  bool unit_target_mass() const { return teacher && (has_labels() || !ce_class_weights); }
};

// Process chunks [begin, end) of images * chunks_per_image; one pair for each instruction set.
#define JML_DECLARE_KERNELS(isa)                                        \
  namespace isa {                                                       \
  void statistics(const Arguments&, int64_t begin, int64_t end);        \
  void statistics_backward(const Arguments&, int64_t begin, int64_t end); \
  void upsampled_statistics(const Arguments&, int64_t begin, int64_t end); \
  void upsampled_statistics_backward(const Arguments&, int64_t begin, int64_t end); \
  void lovasz_gaps(const Arguments&, int64_t begin, int64_t end);      \
  }
JML_DECLARE_KERNELS(baseline)
JML_DECLARE_KERNELS(avx2)
JML_DECLARE_KERNELS(avx512)
#undef JML_DECLARE_KERNELS

}  // namespace jml
