// The kernels of upsampled logits that are fast: softmax against integer labels, in float32, with
// two spatial dimensions, of the columns that their Jaccard metric losses and a cross-entropy
// without class weights need. All else is interpolated tile by tile (../interpolation.h).
//
//     cells.h        the rows of full size between two low ones
//     columns.h      the pixels of a row as lanes without shuffles, with lanes.h
//     low_logits.h   low rows without their maximum
//     cell_labels.h  labels by lanes
//     powers.h       geometric progressions of exponentials, and their sums
//     rows.h         the rows of a chunk
//     forward.h      -> statistics
//     backward.h     -> the gradient of the low rows
#pragma once

#include "backward.h"
#include "forward.h"

namespace jml::JML_ISA {

void upsampled_statistics(const Arguments& args, int64_t begin, int64_t end) {
  UpsampleForward forward(args);
  for (int64_t chunk = begin; chunk < end; ++chunk) forward.run(chunk);
}

void upsampled_statistics_backward(const Arguments& args, int64_t begin, int64_t end) {
  UpsampleBackward backward(args);
  for (int64_t chunk = begin; chunk < end; ++chunk) backward.run(chunk);
}

}  // namespace jml::JML_ISA
