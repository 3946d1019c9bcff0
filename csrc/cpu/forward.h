// The forward: statistics of the tiles of a chunk.
//
//     rows of x against rows of y   -> sums per class
//     the label's terms             -> sums of the class of the label
//
// With hard labels off = 0, so that tp = fn = 0 and fp = x in the rows: one addition for each
// element.
#pragma once

#include "sums.h"
#include "tile.h"

namespace jml::JML_ISA {

template <typename T>
struct ForwardSums {
  const Arguments& args;
  const int64_t classes;
  double* out = nullptr;  // the chunk's partial sums
  int64_t slots[kClassColumns];
  // kSums x (classes + 1), the last for pixels that have no label. The three of the overlap are
  // always made, others where they are asked for.
  std::unique_ptr<FoldedSum[]> sums;
  std::unique_ptr<FoldedMax<T>[]> maxima;  // of rows: classes x kExtrema
  // Whether a class was the label of some pixel, one that is smoothed or not: 2 x (classes + 1).
  std::unique_ptr<uint8_t[]> seen;

  explicit ForwardSums(const Arguments& args)
      : args(args),
        classes(args.classes),
        sums(new FoldedSum[kSums * (args.classes + 1)]),
        maxima(new FoldedMax<T>[args.classes * kExtrema]),
        seen(new uint8_t[2 * (args.classes + 1)]) {
    for (int i = 0; i < kClassColumns; ++i) slots[i] = args.slot(i);
  }

  double* column(int index) const { return out + slots[index] * classes; }
  bool wants(int index) const { return jml::wants(args.columns, index); }
  bool makes(int sum) const { return sum <= kFalseNegative || wants(sum); }
  FoldedSum* sums_of(int sum) const { return sums.get() + sum * (classes + 1); }

  void enter(double* partial) {
    out = partial;
    fill(out, args.partial_size(), 0.0);
    for (int sum = 0; sum < kSums; ++sum)
      if (makes(sum)) fill(sums_of(sum), classes + 1, FoldedSum());
    fill(maxima.get(), classes * kExtrema, FoldedMax<T>());
    fill(seen.get(), 2 * (classes + 1), uint8_t(0));
  }

  void leave() {
    if (labels() && wants(kTargetMax)) add_label_maxima();
    for (int64_t c = 0; c < classes; ++c) {
      double all = 0;
      for (int sum = 0; sum < kSums; ++sum) {
        if (!makes(sum)) continue;
        const double total = sums_of(sum)[c].total();
        column(sum)[c] += total;
        all += total;
      }
      for (int i = 0; i < kExtrema; ++i) {
        const bool of_rows = kSums + i != kPresent && !(kSums + i == kTargetMax && labels());
        const T most = maxima[c * kExtrema + i].largest();
        raise(kSums + i, c, of_rows && all != all ? T(all) : most);
      }
    }
  }

  bool labels() const { return args.labels.data; }

  void raise(int extremum, int64_t c, T value) {
    double& best = column(extremum)[c];
    if (!(double(value) <= best) && best == best) best = double(value);
  }

  void add(Tile<T>& tile) {
    const int n = tile.padded;
    out[args.partial_size() - kTotals] += count_valid(tile.valid, n);
    const bool labels = this->labels();
    const bool squares = wants(kPredictionSquared) || wants(kTargetSquared);
    const bool hard = labels && !tile.smooth;
    const bool only_overlap = !squares && !wants(kPredictionMax) && !wants(kJointMax);
    for (int64_t c = 0; c < classes; ++c) {
      T* x = tile.x + c * tile.stride;
      const T* y = labels ? tile.off : tile.y + c * tile.stride;
      FoldedSum &tp = sums_of(kTruePositive)[c], &fp = sums_of(kFalsePositive)[c];
      FoldedSum& fn = sums_of(kFalseNegative)[c];
      FoldedMax<T>* most = maxima.get() + c * kExtrema - kSums;
      if (hard)
        dot_row(x, tile.scale, n, fp);
      else if (labels)
        overlap_row(x, tile.scale, y, tile.mixed, n, tp, fp, fn);
      else
        overlap_row(x, tile.scale, y, n, tp, fp, fn, most[kTargetMax], tile.dense_feed);
      if (only_overlap && (hard || !wants(kIntersection))) continue;
      scale_row(x, tile.scale, n);
      if (wants(kIntersection)) dot_row(x, y, n, sums_of(kIntersection)[c]);
      if (wants(kPredictionSquared)) dot_row(x, x, n, sums_of(kPredictionSquared)[c]);
      if (wants(kTargetSquared)) dot_row(y, y, n, sums_of(kTargetSquared)[c]);
      if (wants(kPredictionMax)) max_row<T>(x, nullptr, n, most[kPredictionMax]);
      if (wants(kJointMax)) max_row<T>(x, y, n, most[kJointMax]);
    }
    if (labels)
      add_labels(tile);
    else if (wants(kPresent))
      add_present(tile);
  }

 private:
  // The label's own terms. The rows above held x = 0 against `off` in its place: where that
  // counted, it is taken back.
  void add_labels(Tile<T>& tile) {
    const bool softmax = args.activation == Activation::softmax;
    const bool hard = softmax && !tile.smooth;
    if (hard) {  // tp = xy = x <= 1, fn = 1 - x
      add_at_labels(tile, kTruePositive, tile.label_x);
      add_at_labels(tile, kFalseNegative, tile.label_miss);
    } else {
      label_terms(tile.label_x, tile.on, tile.off, softmax ? tile.label_miss : nullptr,
                  tile.label_tp, tile.label_fp, tile.label_fn, tile.label_xy, tile.padded);
      add_at_labels(tile, kTruePositive, tile.label_tp);
      add_at_labels(tile, kFalsePositive, tile.label_fp);
      add_at_labels(tile, kFalseNegative, tile.label_fn);
    }
    if (wants(kIntersection))
      add_at_labels(tile, kIntersection, hard ? tile.label_x : tile.label_xy);
    if (wants(kTargetMax)) see_labels(tile);

    const auto at_labels = [&](auto visit) __attribute__((always_inline)) {
      for (int p = 0; p < tile.count; ++p)
        if (tile.row[p] < classes) visit(tile.row[p], tile.label_x[p], tile.on[p], tile.off[p]);
    };
    if (wants(kPredictionSquared) || wants(kTargetSquared))
      at_labels([&](int32_t c, T x, T on, T off) {
        sums_of(kPredictionSquared)[c].lane[0] += double(x * x);
        sums_of(kTargetSquared)[c].lane[0] += double(on * on - off * off);
      });
    if (wants(kPredictionMax) || wants(kJointMax))
      at_labels([&](int32_t c, T x, T on, T) {
        raise(kPredictionMax, c, x);
        raise(kJointMax, c, x + on);
      });
    // Smoothing by 1 makes all classes equal, and the first the argmax.
    if (wants(kPresent))
      at_labels([&](int32_t c, T, T on, T off) {
        if (args.independent() ? on > T(0.5) : true)
          raise(kPresent, args.independent() || on > off ? c : 0, T(1));
      });
  }

  void see_labels(const Tile<T>& tile) {
    const int32_t *row = tile.row, *smoothed = tile.boundary;
    uint8_t* const hard = seen.get();
    const int64_t ways = classes + 1;
    const int count = tile.count;
    if (args.binary()) {  // where the row of a pixel without a label is also that of label 0
      for (int p = 0; p < count; ++p)
        if (tile.valid[p] != 0) hard[(tile.off[p] != 0) * ways + row[p]] = 1;
    } else if (!tile.smooth || args.boundary_size == 0) {
      uint8_t* const all = hard + (tile.smooth ? ways : 0);
      for (int64_t c = 0; c < ways; ++c) all[c] |= tile.here[c];
    } else {
      for (int block = 0; block < tile.padded / kBlock; ++block) {
        const int first = block * kBlock;
        const bool alike = tile.one_label[block] && !tile.mixed[block];
        for (int p = first; p < first + (alike ? 1 : kBlock); ++p)
          hard[smoothed[p] * ways + row[p]] = 1;
      }
    }
  }

  // The target takes few values: at labels 1, or `on` where smoothed; elsewhere 0, or `off`.
  void add_label_maxima() {
    const LabelTarget<T> target =
        label_target(T(args.label_smoothing), T(args.label_count()));
    const uint8_t* smoothed = seen.get() + classes + 1;
    bool any_smoothed = args.binary() && smoothed[classes];
    for (int64_t c = 0; c < classes; ++c) any_smoothed |= smoothed[c] != 0;
    for (int64_t c = 0; c < classes; ++c)
      raise(kTargetMax, c,
            seen[c] ? T(1) : smoothed[c] ? target.on : any_smoothed ? target.off : T(0));
  }

  // A number for each pixel to the sums of its label.
  void add_at_labels(const Tile<T>& tile, int sum, const T* value) {
    FoldedSum* const to = sums_of(sum);
    // A region goes on from block to block: its sum stays in a register.
    int32_t region = int32_t(classes);
    FoldLanes held = {};
    for_labels(
        tile.row, tile.one_label, tile.padded,
        [&](int32_t c, int p) __attribute__((always_inline)) {
          if (c != region) {
            to[region].add(held);
            region = c;
            held = FoldLanes{};
          }
          held += fold_block(value + p);
        },
        [&](int32_t c, int p)
            __attribute__((always_inline)) { to[c].add_pixel(p, value[p]); });
    to[region].add(held);
  }

  void add_present(Tile<T>& tile) {
    const bool independent = args.independent();
    for (int p = 0; p < tile.count; ++p) {
      if (tile.valid[p] == 0) continue;
      int64_t best = 0;
      for (int64_t c = 0; c < classes; ++c) {
        const T y = tile.y[c * tile.stride + p];
        if (independent && y > T(0.5)) raise(kPresent, c, T(1));
        if (y > tile.y[best * tile.stride + p]) best = c;
      }
      if (!independent) raise(kPresent, best, T(1));
    }
  }
};

template <typename T>
void statistics_of(const Arguments& args, int64_t begin, int64_t end) {
  Tile<T> tile(args);
  ForwardSums<T> sums(args);
  int64_t entered = -1;
  for_tiles(args, begin, end, [&](int64_t chunk, const Pixels& pixels, const Pixels& next) {
    if (chunk != entered) {
      if (entered >= 0) sums.leave();
      entered = chunk;
      sums.enter(args.partial + chunk * args.partial_size());
      args.bad_label[chunk] = -1;
    }
    const int64_t bad = tile.load(pixels, next, nullptr);
    if (bad >= 0 && args.bad_label[chunk] < 0) args.bad_label[chunk] = bad;
    sums.add(tile);
  });
  if (entered >= 0) sums.leave();
}

}  // namespace jml::JML_ISA
