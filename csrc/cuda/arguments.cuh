// What the launcher hands to the kernels, by value.
#pragma once

#include "../axis.h"
#include "../formula.h"
#include "../problem.h"
#include "platform.cuh"

namespace jml::cuda {

// How a thread gets at the numbers of its tile.
//     rows     The thread's pixels lie side by side and aligned: it uses vector loads.
//     staged   The classes lie side by side, pixel after pixel: one segment of memory is copied to
//              shared memory, 16 bytes at a time, and the threads read their numbers from there.
//     strided  Anything else goes number by number, coalesced where pixels lie side by side.
enum class AccessPattern { rows, strided, staged };

struct Access {
  AccessPattern pattern = AccessPattern::strided;
  bool is_segment = false;   // one stride leads from each pixel of an image to the next
  int64_t pixel_stride = 0;  // that stride
  int padding = 0;           // staged: bytes between pixels in shared memory
};

// Where a column's sums lie in a block's partial sums; -1 where nobody requests them.
struct Slots {
  int8_t of_labels[kClassColumns];
  int8_t of_dense[kClassColumns];
  int count = 0;
};

// The sums per image that a block always makes, whatever is requested.
enum BlockTotal { kLabelCrossEntropy, kLabelWeight, kDenseCrossEntropy, kElements, kTeacherEntropy,
                  kPixelsCounted, kBlockTotals };

// An axis, with what a GPU multiplies with in place of dividing.
struct DeviceAxis : Axis {
  double reciprocal_step = 1, reciprocal_unit = 1;
};

// The axes of a tensor that may have lower sizes than the pixels.
struct Axes {
  DeviceAxis of[3];
};

// Backward of logits of lower resolution: each block makes the gradient of a patch of them.
constexpr int kMaxPatchColumns = 64;
// How far the windows of boundaries may reach where kernels go cell by cell (cell_codes.cuh).
constexpr int kMostRadius = 8;
struct Patches {
  int64_t size[3] = {1, 1, 1};   // of a patch, along each dimension: low pixels
  int64_t count[3] = {1, 1, 1};  // of patches
};

struct Arguments : Problem {
  Access logits_access, labels_access, dense_access, mask_access, grad_access;
  int staged_bytes = 0;       // of shared memory, for 32 pixels of a tile that is staged
  double reciprocal_width = 1, reciprocal_height = 1;
  bool side_by_side = false;  // whether a thread's pixels are neighbours: what `rows` needs
  ClassWeights ce_class_weights;
  double ignored_number = 0;  // ignored_target(), found once
  // Smoothed labels: the target is 1 - label_deficit at the label.
  double target_elsewhere = 0, label_deficit = 0;
  double teacher_scale = 1, student_scale = 1;  // 1 / temperature

  // With upsample (upsampling.cuh). An image that is no volume has its rows as the first dimension.
  Axes logits_axes, dense_axes;
  Patches patches;
  int tile_pixels = 0;  // at most, of a block that goes through a box
  int strips = 1;       // of 32 columns of pixels, side by side in a block (cells.cuh)

  int parts = 0;             // blocks that share an image
  int classes_per_warp = 0;  // in one chunk
  int chunks = 1;            // how many chunks it takes to get through all classes

  // Forward: each block writes slots.count x classes + warps x kBlockTotals partial sums.
  Slots slots;
  double* partials = nullptr;
  int64_t partials_per_block = 0;
  // Backward: the gradients as the operator gets them, and what they are multiplied with.
  const double *grad_sums = nullptr, *grad_totals = nullptr;
  ClassWeights scale;
};

}  // namespace jml::cuda
