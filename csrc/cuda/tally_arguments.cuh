// What the kernels that count for metrics are handed, and the map of small integers through which
// they tell each other of pixels.
//
//     labels, mask -> marks      tally_maps.cuh: what labels say, and where they have boundaries
//     logits, marks -> counts    tally.cuh: all that is counted; predictions take the marks' place
//     marks -> counts            tally_maps.cuh: boundaries of the predictions
//
// The numbers that are counted are described in jml_kernels/reference_tally.py. All are integers,
// so that atomic additions make the same of them in any order.
#pragma once

#include "arguments.cuh"

namespace jml::cuda {

using Count = unsigned long long;

// Probabilities are added up as integers, in units of 2^-30: reference_tally.PROBABILITY_UNIT.
constexpr int64_t kProbabilityUnits = int64_t{1} << 30;

// The rows of `of_images` and the columns of bins: reference_tally.IMAGE_ROWS, BIN_COLUMNS.
enum ImageRow {
  kHits,
  kPredicted,
  kLabelled,
  kBoundaryHits,
  kBoundaryPredicted,
  kBoundaryLabelled,
  kImageRows
};
enum BinColumn { kBinPixels, kBinCorrect, kBinProbability, kBinColumns };

// One for each pixel of each image, side by side, of the fewest bytes that hold them: two flags,
// and above them a class. Above all classes come `classes`, for a label that is out of range, and
// `classes` + 1, for one that is ignored.
struct Marks {
  // Whether the pixel counts, if its label is in range.
  static constexpr uint32_t kCounts = 1;
  // From labels: whether they have a boundary here. From predictions: whether the prediction is
  // right at a boundary of the labels.
  static constexpr uint32_t kAtBoundary = 2;
  static constexpr int kFlags = 2;

  void* data = nullptr;
  int bytes = 1;

  static int bytes_for(int64_t classes) {
    const int64_t largest = (classes + 1) << kFlags | 3;
    return largest <= UINT8_MAX ? 1 : largest <= UINT16_MAX ? 2 : 4;
  }
  JML_DEVICE uint32_t load(int64_t pixel) const {
    if (bytes == 1) return static_cast<const uint8_t*>(data)[pixel];
    if (bytes == 2) return static_cast<const uint16_t*>(data)[pixel];
    return static_cast<const uint32_t*>(data)[pixel];
  }
  JML_DEVICE void store(int64_t pixel, uint32_t mark) const {
    if (bytes == 1)
      static_cast<uint8_t*>(data)[pixel] = uint8_t(mark);
    else if (bytes == 2)
      static_cast<uint16_t*>(data)[pixel] = uint16_t(mark);
    else
      static_cast<uint32_t*>(data)[pixel] = mark;
  }
};

struct TallyOutputs {
  Count *of_images = nullptr, *confusion = nullptr, *calibration = nullptr, *classwise = nullptr,
        *wrong = nullptr;

  JML_DEVICE Count* of_image(int64_t image, ImageRow row, int64_t classes) const {
    return of_images + (image * kImageRows + row) * classes;
  }
};

// Of the kernels that go through maps. A block takes pieces of rows, one pixel a thread.
struct MapArguments {
  TensorView labels, mask;
  Marks marks;
  TallyOutputs outputs;
  int64_t output_sizes[5] = {};  // in the order of TallyOutputs: the first kernel makes them 0
  int64_t images = 0, classes = 0, spatial[3] = {1, 1, 1};
  int64_t ignore_index = 0;
  int64_t radius = 0;  // of windows; 0 has no boundaries
  int64_t pieces_of_row = 0, pieces = 0;  // of a row, and of all rows
  double reciprocal_pieces = 1, reciprocal_height = 1, reciprocal_depth = 1;
  int columns = 0;  // of windows, that lie in shared memory at a time
};

struct TallyArguments : Arguments {
  Marks marks;
  TallyOutputs outputs;
  bool has_boundaries = false;  // whether marks of the predictions are asked for
  bool calibration = false, classwise = false;
  int bins = 0;
  // A probability of so many units or more is added to its bin by itself, a smaller one is in the
  // first bin.
  double apart_from = 0;
  int tiles_of_first_bins = 1;  // of which what a thread adds up of smaller ones fits 32 bits
  // What has room in shared memory; the rest is added to global memory.
  bool has_matrix = false, has_class_counts = false;
  bool has_calibration_bins = false, has_classwise_bins = false;
};

struct TallyKernel {
  void (*function)(TallyArguments);
  int classes, pixels;  // of a thread
  int max_warps;
  int64_t (*shared_bytes)(const TallyArguments&, int warps);
};

// By the number of classes, as the kernels of statistics: up to 8, one warp's or three's, more; for
// logits of the full size, and of lower resolution.
TallyKernel tally_kernel_for(int64_t classes);
TallyKernel upsampling_tally_kernel_for(int64_t classes);
// What takes any number of classes, and double precision.
TallyKernel general_tally_kernel(bool is_double);

// What goes through maps, before that kernel and after it.
using MapKernel = void (*)(MapArguments);
MapKernel mark_kernel();
MapKernel boundary_kernel();

}  // namespace jml::cuda
