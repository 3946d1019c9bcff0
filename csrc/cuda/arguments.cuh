// What the launcher hands to the kernels, by value.
#pragma once

#include "../formula.h"
#include "../problem.h"
#include "platform.cuh"

namespace jml::cuda {

// How the numbers of a tile are reached.
//     rows     a thread's pixels lie side by side and aligned: vector loads
//     staged   classes lie side by side, pixel after pixel: a run of memory that is copied to shared
//              memory 16 bytes at a time, and read from there across
//     strided  anything else: number by number, coalesced where pixels lie side by side
enum class Reach { rows, strided, staged };

struct Reading {
  Reach reach = Reach::strided;
  bool is_run = false;  // one stride leads from pixel to pixel
  int64_t step = 0;     // that stride
  int padding = 0;      // staged: bytes between pixels in shared memory
};

// Where a column's sums are in a block's row of partial sums; -1 where they are not asked for.
struct Slots {
  int8_t of_labels[kClassColumns];
  int8_t of_dense[kClassColumns];
  int count = 0;
};

// Sums per image that a block makes, whatever is asked for.
enum BlockTotal { kLabelEntropy, kLabelWeight, kDenseEntropy, kElements, kTeacherEntropy,
                  kPixelsCounted, kBlockTotals };

struct Arguments : Problem {
  Reading read_logits, read_labels, read_dense, read_mask, read_grad;
  int staged_bytes = 0;       // of shared memory, for 32 pixels of a tile that is staged
  double reciprocal_width = 1, reciprocal_height = 1;
  bool side_by_side = false;  // whether a thread's pixels are neighbours: what `rows` needs
  ClassWeights ce_class_weights;
  double off = 0, share = 0;  // the target of smoothed labels is 1 - share there, off elsewhere
  double teacher_scale = 1, student_scale = 1;  // 1 / temperature

  int parts = 0;            // blocks that share an image
  int classes_of_warp = 0;  // at a time
  int chunks = 1;           // how often, to get through all classes

  // Forward: a row of `slots.count` x classes + warps x kBlockTotals numbers for each block.
  Slots slots;
  double* partials = nullptr;
  int64_t row = 0;
  // Backward: gradients as the operator gets them, and what they are multiplied with.
  const double *grad_sums = nullptr, *grad_totals = nullptr;
  ClassWeights scale;
};

}  // namespace jml::cuda
