// What metrics count, in three passes over the tiles of some chunks (../../jml_kernels/
// reference_tally.py says what). Compiled once for each instruction set.
//
//     1. labels -> their map of codes                     map_labels
//     2. logits -> predictions, confidences; with the map of labels -> counts, histograms, the map
//        of predictions                                   tally
//     3. both maps -> the counts of boundary pixels       tally_boundaries
//
// Logits are read once, and nothing of their size is written. The maps, tally_maps.h, are there
// because a window of the boundary reaches pixels of other tiles, whose predictions may not be made
// yet. Without bins the second pass takes no exponentials, argmax.h; counts are those of
// tally_counts.h, histograms those of tally_bins.h.
#pragma once

#include <optional>

#include "chunk_tiles.h"
#include "softmax.h"
#include "tally_bins.h"
#include "tile.h"

namespace jml::JML_ISA {

// ---- 1. labels -----------------------------------------------------------------------------

inline int64_t map_labels_of_tile(const TallyArguments& tally, const Pixels& pixels,
                                  int32_t* code, int32_t* counts) {
  const Arguments& args = tally.args;
  load_codes(args, pixels, code);
  store_codes(tally, tally.labels, pixels, code);
  fill(counts, pixels.count, 1);
  if (args.mask.given) load_mask(args, pixels, counts);
  int wrong = 0;
  for (int i = 0; i < pixels.count; ++i) wrong += code[i] == kOutOfRange && counts[i] != 0;
  return wrong;
}

void map_labels(const TallyArguments& tally, int64_t begin, int64_t end) {
  const int64_t pixels = tally.args.tile_pixels;
  std::unique_ptr<int32_t[]> code(new int32_t[pixels]), counts(new int32_t[pixels]);
  int64_t wrong = 0;
  for (int64_t chunk = begin; chunk < end; ++chunk)
    for_tiles(tally.args, chunk, end, [&](const Pixels& pixels, const Pixels&) {
      wrong += map_labels_of_tile(tally, pixels, code.get(), counts.get());
    });
  add_shared(tally.wrong, wrong);
}

// ---- 2. logits -----------------------------------------------------------------------------

template <typename T>
class Tally {
 public:
  explicit Tally(const TallyArguments& tally)
      : tally(tally),
        args(tally.args),
        stride(args.tile_pixels + 64 / int(sizeof(T))),
        logits(args.logits, args.logits_upsampling, args, stride),
        labels(tally),
        boundaries(args),
        counts(tally, 0, tally.confusion) {
    if (tally.calibration) of_confidence.emplace(tally);
    if (tally.classwise) of_classes.emplace(tally);
    allocate();
    memory.reserve();
    allocate();
    fill(every, args.tile_pixels, T(1));
  }

  void add(const Pixels& pixels, const Pixels& next) {
    labels.load(pixels);
    logits.load(pixels, labels.padded);
    logits.begin_prefetch(next, false);
    activate();
    logits.finish_prefetch();
    keep_predictions(pixels);
    counts.enter(pixels.image);
    counts.add(labels.label.get(), predicted, labels.padded);
    if (of_confidence) add_confidences(pixels);
    for (int64_t c = 0; of_classes && c < args.classes; ++c)
      of_classes->add(c, logits.tile + c * stride, scale, labels.label.get(), labels.padded);
  }

 private:
  const TallyArguments& tally;
  const Arguments& args;
  const int64_t stride;    // between rows of a tile, see tile.h
  TileSource<T> logits;    // C x stride  z, then e^(z - z_max)
  LabelledPixels<T> labels;
  MapBoundaries boundaries;
  ImageCounts counts;
  std::optional<ConfidenceBins<T>> of_confidence;
  std::optional<ClassBins<T>> of_classes;

  Memory memory;
  T *every, *finite;     // P  1 everywhere; 1 where the probabilities are numbers
  T* scale;              // P  what makes e^(z - z_max) a probability in units, 0 where none counts
  int32_t* predicted;    // P  the class, or the number of classes where a pixel does not count
  int32_t* on_boundary;  // P

  void allocate() {
    const int64_t pixels = args.tile_pixels, tile = args.classes * stride;
    memory.allocate(logits.tile, tile);
    memory.allocate(logits.ahead, logits.has_prefetch() ? tile : 0);
    memory.allocate_each<T>({&every, &finite, &scale}, pixels);
    memory.allocate_each<int32_t>({&predicted, &on_boundary}, pixels);
  }

  void activate() {
    const int n = labels.padded;
    if (!of_confidence && !of_classes)
      return argmax_tile(logits.tile, args.classes, stride, n, predicted, logits.prefetch);
    softmax_tile<false, false, EntropyTarget::none, false, true>(
        logits.tile, args.classes, stride, n,
        SoftmaxRows<T>{.valid = every, .scale = scale, .largest = predicted}, logits.prefetch);
    set_scale(n);
  }

  // Probabilities that are NaN count as 0.
  void set_scale(int n) {
    const T* __restrict valid = labels.valid.get();
    int numbers = 0;
    for (int i = 0; i < n; ++i) {
      const bool is_number = scale[i] == scale[i];
      finite[i] = is_number ? T(1) : T(0);
      scale[i] = is_number && valid[i] != 0 ? scale[i] * T(kProbabilityUnits) : T(0);
      numbers += is_number;
    }
    for (int64_t c = 0; numbers < n && c < args.classes; ++c)
      keep_valid(logits.tile + c * stride, finite, n);
  }

  void keep_predictions(const Pixels& pixels) {
    const int n = labels.padded;
    const int32_t none = int32_t(args.classes);
    int32_t* const __restrict row = predicted;
    const int32_t *__restrict code = labels.code.get(), *__restrict label = labels.label.get();
    if (tally.has_boundaries()) {
      for (int i = 0; i < n; ++i) on_boundary[i] = code[i] == kIgnored ? kIgnored : row[i];
      store_codes(tally, tally.predictions, pixels, on_boundary);
    }
    for (int i = 0; i < n; ++i) row[i] = label[i] == none ? none : row[i];
  }

  void add_confidences(const Pixels& pixels) {
    const int n = labels.padded;
    if (tally.has_boundaries()) boundaries.find(tally.labels, pixels, n, on_boundary);
    of_confidence->add(scale, labels.valid.get(), labels.label.get(), predicted,
                       tally.has_boundaries() ? on_boundary : nullptr, n);
  }
};

template <typename T>
void run_tally(const TallyArguments& tally, int64_t begin, int64_t end) {
  Tally<T> pass(tally);
  for (int64_t chunk = begin; chunk < end; ++chunk)
    for_tiles(tally.args, chunk, end,
              [&](const Pixels& pixels, const Pixels& next) { pass.add(pixels, next); });
}

void tally(const TallyArguments& tally, int64_t begin, int64_t end) {
  if (tally.args.logits.dtype == DType::f64)
    run_tally<double>(tally, begin, end);
  else
    run_tally<float>(tally, begin, end);
}

// ---- 3. boundaries -------------------------------------------------------------------------

class BoundaryTally {
 public:
  explicit BoundaryTally(const TallyArguments& tally)
      : tally(tally),
        labels(tally),
        boundaries(tally.args),
        counts(tally, 1, nullptr),
        predicted(new int32_t[tally.args.tile_pixels]),
        on_boundary(new int32_t[tally.args.tile_pixels]) {}

  void add(const Pixels& pixels) {
    labels.load(pixels);
    const int n = labels.padded;
    load_codes(tally, tally.predictions, pixels, predicted.get());
    boundaries.find(tally.predictions, pixels, n, on_boundary.get());
    keep(on_boundary.get(), n, predicted.get());
    boundaries.find(tally.labels, pixels, n, on_boundary.get());
    keep(on_boundary.get(), n, labels.label.get());
    counts.enter(pixels.image);
    counts.add(labels.label.get(), predicted.get(), n);
  }

 private:
  const TallyArguments& tally;
  LabelledPixels<float> labels;
  MapBoundaries boundaries;
  ImageCounts counts;
  std::unique_ptr<int32_t[]> predicted, on_boundary;  // P

  // Leaves the classes of pixels that count and lie at a boundary.
  void keep(const int32_t* __restrict at_boundary, int n, int32_t* __restrict row) {
    const int32_t none = int32_t(tally.args.classes);
    const float* __restrict valid = labels.valid.get();
    for (int i = 0; i < n; ++i) row[i] = at_boundary[i] && valid[i] != 0 ? row[i] : none;
  }
};

void tally_boundaries(const TallyArguments& tally, int64_t begin, int64_t end) {
  BoundaryTally pass(tally);
  for (int64_t chunk = begin; chunk < end; ++chunk)
    for_tiles(tally.args, chunk, end,
              [&](const Pixels& pixels, const Pixels&) { pass.add(pixels); });
}

}  // namespace jml::JML_ISA
