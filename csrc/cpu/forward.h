// The forward: statistics of the tiles of a chunk, against labels, a dense target, or both.
//
//     tensors -> tile (tile_load.h) -> sums of each target (label_sums.h, dense_sums.h)
#pragma once

#include "dense_sums.h"
#include "label_sums.h"
#include "tile_load.h"

namespace jml::JML_ISA {

template <typename T>
class Forward {
 public:
  explicit Forward(const Arguments& args)
      : args(args), tile(args), loader(tile), labels(args), dense(args) {
    requested.faults = true;
    requested.label_entropy = args.has_labels() && labels.requested(kCrossEntropy);
    requested.dense_entropy = args.has_dense() && dense.requested(kCrossEntropy);
    requested.teacher_entropy = args.has_dense() && dense.teacher_entropy_requested();
  }

  void enter(int64_t chunk) {
    double* partial = args.partial + chunk * args.partial_size();
    if (args.has_labels()) labels.enter(partial);
    if (args.has_dense()) dense.enter(partial + args.partial_offset(args.targets() - 1));
    faults = args.faults + chunk;
    tile.faults = Faults();
  }

  void add(const Pixels& pixels, const Pixels& next) {
    loader.load(pixels, next, requested);
    if (tile.has_ignored) clear_ignored();
    const bool of_labels = args.has_labels() && labels.classes_requested();
    const bool of_dense = args.has_dense() && dense.classes_requested();
    add_rows(of_labels, of_dense);
    if (of_labels) labels.add_labels(tile);
    if (of_dense) dense.add_pixels(tile);
    if (args.has_labels()) labels.add_totals(tile);
    if (args.has_dense()) dense.add_totals(tile);
  }

  void leave() {
    if (args.has_labels()) labels.leave();
    if (args.has_dense()) dense.leave();
    *faults = tile.faults;
  }

 private:
  const Arguments& args;
  Tile<T> tile;
  TileLoader<T> loader;
  Requested<T> requested;
  LabelSums<T> labels;
  DenseSums<T> dense;
  Faults* faults = nullptr;

  // What a softmax gives to ignored elements enters no sum.
  void clear_ignored() {
    for (int64_t c = 0; c < args.classes; ++c)
      replace_ignored(tile.y_row(c), T(0), tile.x_row(c), tile.padded);
  }

  void add_rows(bool of_labels, bool of_dense) {
    const bool products_of_labels = of_labels && labels.needs_products(tile);
    const bool products_of_dense = of_dense && dense.needs_products();
    // Outside of its own place a hard label makes all of p a false positive.
    const bool shared = of_labels && of_dense && !tile.label.any_smoothed;
    for (int64_t c = 0; (of_labels || of_dense) && c < args.classes; ++c) {
      if (of_labels && !shared) labels.add_overlap(tile, c);
      if (of_dense) dense.add_overlap(tile, c, shared ? &labels.false_positive(c) : nullptr);
      if (!products_of_labels && !products_of_dense) continue;
      scale_row(tile.x_row(c), tile.softmax.scale, tile.padded);
      if (products_of_labels) labels.add_products(tile, c);
      if (products_of_dense) dense.add_products(tile, c);
    }
  }
};

}  // namespace jml::JML_ISA
