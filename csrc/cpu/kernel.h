// The two kernels: loops over the tiles of a chunk. Compiled once for each instruction set.
//
// A tile goes through
//     labels -> codes -> on, off       what the target is at the label and elsewhere
//     logits -> x (classes x pixels)   load_tile
//     take the label's logit out of the tile: what stays has the target `off`, one row for all
//         classes, and the label's own terms are one number a pixel
//     x -> e^(x - largest), its sum    x = e * scale, scale = valid / sum
//     rows of x against rows of y      -> sums per class (forward) or gradient (backward)
//     scatter of the label's terms     -> the class of the label
// With hard labels off = 0, so that tp = fn = 0 and fp = x in the rows: one addition for each
// element. A dense target has a tile of its own in place of on and off.
#pragma once

#include <cstdlib>
#include <memory>

#include "labels.h"
#include "rows.h"
#include "tile_io.h"

namespace jml::JML_ISA {

// Label terms go to these many accumulators in turn: neighbours mostly have one label, and an
// addition would wait for the one before it.
constexpr int kScatterWays = 4;

// All that a thread needs to work on a tile, in one piece of memory.
template <typename T>
struct Tile {
  const Arguments& args;
  const int64_t classes;
  const int64_t stride;  // between rows: a line more than the pixels, so that rows a power of two
                         // long do not fight for the same cache sets
  int count = 0;         // pixels of this tile
  int padded = 0;        // the same, up to a multiple of kRowStep; padding is not valid
  bool all_valid = true;
  bool smooth = false;  // whether `off` is not 0 somewhere

  T *x, *y;                        // classes x stride; x has one more, of pixels with no label
  T *valid;                        // 1 or 0
  T *on, *off;                     // target at the label and elsewhere, 0 where not valid
  T *smooth_on, *smooth_off;       // where they are when labels are smoothed; else valid and 0
  T* zero;
  T *scale, *dot;                  // probability = x * scale; dot = sum of probability * g
  T *label_x, *label_miss;         // probability of the label, and of all others
  T *label_tp, *label_fp, *label_fn, *label_xy, *label_gradient;
  int32_t *code, *row;  // label, and the row of its class or `classes` where it has none
  int32_t *lowest, *highest, *boundary;
  Run* run;
  NextTile next_logits, next_dense;

  explicit Tile(const Arguments& args, bool two_tiles)
      : args(args), classes(args.classes), stride(args.tile_pixels + 64 / int(sizeof(T))) {
    const int64_t pixels = args.tile_pixels, halo = args.boundary_size;
    // Once to count the bytes, once to hand them out.
    for (bool allocated : {false, true}) {
      int64_t used = 0;
      auto take = [&](auto*& pointer, int64_t size) {
        using Pointer = std::remove_reference_t<decltype(pointer)>;
        if (allocated) pointer = reinterpret_cast<Pointer>(memory.get() + used);
        used += (size * int64_t(sizeof(*pointer)) + 63) / 64 * 64;
      };
      take(x, (classes + 1) * stride);
      take(y, two_tiles ? classes * stride : 0);
      for (T** rows : {&valid, &smooth_on, &smooth_off, &zero, &scale, &dot, &label_x, &label_miss,
                       &label_tp, &label_fp, &label_fn, &label_xy, &label_gradient})
        take(*rows, pixels);
      for (int32_t** rows : {&code, &row, &lowest, &highest, &boundary}) take(*rows, pixels + halo);
      take(run, pixels);
      if (!allocated) memory = allocate_bytes(used);
    }
    fill(zero, pixels, T(0));
    on = valid;
    off = zero;
  }

  // Valid until the next call: they share their room.
  Runs runs(const TensorView& view, int64_t first) const {
    return Runs(view, args.spatial, first, count, run);
  }

  bool has_labels() const { return args.labels.data; }

  // Everything about pixels [first, first + size) of an image but its statistics: x before its
  // factor `scale`, the target, the label's probability. Returns the position of the first label
  // out of range, -1 if there is none.
  // With hard labels `dot_rule`, a number for each class, also gives dot = sum of it times x.
  int64_t load(int64_t image, int64_t first, int size, const T* dot_rule) {
    count = size;
    padded = (size + kRowStep<T> - 1) / kRowStep<T> * kRowStep<T>;
    int64_t bad = load_valid(image, first);
    const bool softmax = args.activation == Activation::softmax;
    const bool sigmoid = args.activation == Activation::sigmoid;
    const Runs logits_runs = runs(args.logits, first);
    load_tile(args.logits, image, logits_runs, classes, count, padded, x, stride);
    next_logits = NextTile(args.logits, image, logits_runs, classes, count);
    // A pixel that does not count gets logits 0, so that NaN in it goes nowhere.
    if (!all_valid) clear_invalid(x);
    const T nothing = softmax || sigmoid ? -std::numeric_limits<T>::infinity() : T(0);
    if (has_labels()) take_label(nothing);
    const auto prefetch = [&](int from, int to) {
      for (int64_t c = classes * from / padded; c < classes * to / padded; ++c)
        next_logits.prefetch(c);
    };
    if (softmax) {
      const SoftmaxRows<T> rows{valid, label_x, label_miss, scale, dot};
      const bool with_dot = dot_rule && !smooth;
      if (with_dot)
        softmax_tile<true, true>(x, classes, stride, padded, dot_rule, rows, prefetch);
      else if (has_labels())
        softmax_tile<true, false>(x, classes, stride, padded, dot_rule, rows, prefetch);
      else
        softmax_tile<false, false>(x, classes, stride, padded, dot_rule, rows, prefetch);
    } else {
      for (int64_t c = 0; sigmoid && c < classes; ++c) sigmoid_row(x + c * stride, padded);
      if (sigmoid && has_labels()) sigmoid_row(label_x, padded);
      copy(valid, padded, scale);
    }
    if (args.dense.data) bad = std::max(bad, load_dense(image, first));
    return bad;
  }

  // An ignored element of an integer target has no gradient.
  void clear_ignored(int64_t image, int64_t first) {
    load_tile(args.dense, image, runs(args.dense, first), classes, count, padded, y, stride);
    for (int64_t c = 0; c < classes; ++c)
      for (int p = 0; p < count; ++p)
        if (y[c * stride + p] == T(args.ignore_index)) x[c * stride + p] = 0;
  }

 private:
  struct Free {
    void operator()(char* pointer) const { std::free(pointer); }
  };
  std::unique_ptr<char, Free> memory;

  static std::unique_ptr<char, Free> allocate_bytes(int64_t bytes) {
    auto* pointer = static_cast<char*>(std::aligned_alloc(64, size_t(bytes)));
    if (!pointer) throw std::bad_alloc();
    return std::unique_ptr<char, Free>(pointer);
  }

  int64_t load_valid(int64_t image, int64_t first) {
    if (!has_labels() || args.mask.data || args.binary()) fill(valid, count, T(1));
    fill(valid + count, padded - count, T(0));
    if (args.mask.data) {
      const auto* data = static_cast<const uint8_t*>(args.mask.data);
      load_row(data + image * args.mask.image_stride, runs(args.mask, first), valid);
    }
    if (!has_labels()) {
      all_valid = count_valid(valid, padded) == padded;
      return -1;
    }
    load_codes(args, image, runs(args.labels, first), code);
    fill(code + count, padded - count, kIgnored);
    const int32_t none = int32_t(classes);
    const int valid_count =
        args.mask.data || args.binary()
            ? place_labels(code, int32_t(args.binary()), none, valid, row, padded)
            : place_labels(code, none, valid, row, padded);
    all_valid = valid_count == padded;
    // A masked pixel may hold any label. Of the others the first that is no class is reported.
    int64_t bad = -1;
    for (int p = count - 1; !all_valid && p >= 0; --p)
      if (code[p] == kOutOfRange && masked_in(image, first + p)) bad = first + p;
    load_target(image, first);
    return bad;
  }

  bool masked_in(int64_t image, int64_t pixel) const {
    if (!args.mask.data) return true;
    Run one;
    const Runs where(args.mask, args.spatial, pixel, 1, &one);
    return static_cast<const uint8_t*>(
        args.mask.data)[image * args.mask.image_stride + one.offset];
  }

  void load_target(int64_t image, int64_t first) {
    const T epsilon = T(args.label_smoothing), labels = T(args.label_count());
    smooth = epsilon != 0;
    const bool boundary_only = smooth && args.boundary_size > 0;
    if (boundary_only) {
      boundary_pixels(args, image, first, count, code, lowest, highest, boundary);
      fill(boundary + count, padded - count, int32_t(0));
      smooth = false;
      for (int p = 0; p < padded; ++p) smooth |= boundary[p] != 0;
    }
    on = smooth ? smooth_on : valid;
    off = smooth ? smooth_off : zero;
    if (smooth)
      target_row(boundary_only ? boundary : nullptr, epsilon, labels, valid, on, off, padded);
  }

  void clear_invalid(T* tile) {
    for (int64_t c = 0; c < classes; ++c) keep_valid(tile + c * stride, valid, padded);
  }

  // What the label's place keeps is `nothing`, the logit of probability 0.
  void take_label(T nothing) {
    fill(x + classes * stride, padded, nothing);
    for (int p = 0; p < padded; ++p) {
      T& place = x[row[p] * stride + p];
      label_x[p] = place;
      place = nothing;
    }
  }

  int64_t load_dense(int64_t image, int64_t first) {
    const Runs dense_runs = runs(args.dense, first);
    load_tile(args.dense, image, dense_runs, classes, count, padded, y, stride);
    next_dense = NextTile(args.dense, image, dense_runs, classes, count);
    if (!all_valid) clear_invalid(y);
    return args.integer_dense() ? smooth_integers(first) : -1;
  }

  // Independent labels 0 and 1: smoothed as two classes; one that is ignored counts nowhere, as
  // does x = y = 0.
  int64_t smooth_integers(int64_t first) {
    const T ignore = T(args.ignore_index);
    const LabelTarget<T> target = label_target(T(args.label_smoothing), T(2));
    int64_t bad = -1;
    for (int p = count - 1; p >= 0; --p) {
      if (valid[p] == 0) continue;
      bool counts = false;
      for (int64_t c = classes - 1; c >= 0; --c) {
        T& label = y[c * stride + p];
        if (label == ignore) {
          label = 0;
          x[c * stride + p] = 0;
          continue;
        }
        counts = true;
        const int64_t position = c * args.pixels + first + p;
        if (label != 0 && label != 1) bad = bad < 0 ? position : std::min(bad, position);
        label = label == 1 ? target.on : target.off;
      }
      valid[p] = counts ? T(1) : T(0);
    }
    return bad;
  }
};

// Calls body(image, chunk, first pixel, pixels) for the tiles of chunks [begin, end), and
// enter(image, chunk) before those of each.
template <typename Enter, typename Body>
inline void for_tiles(const Arguments& args, int64_t begin, int64_t end, Enter enter, Body body) {
  const int64_t chunk_pixels = args.tiles_per_chunk * args.tile_pixels;
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    const int64_t image = chunk / args.chunks_per_image;
    const int64_t first = chunk % args.chunks_per_image * chunk_pixels;
    const int64_t last = std::min(args.pixels, first + chunk_pixels);
    enter(image, chunk);
    for (int64_t p = first; p < last; p += args.tile_pixels)
      body(image, chunk, p, int(std::min(args.tile_pixels, last - p)));
  }
}

// ---- forward -------------------------------------------------------------------------------

template <typename T>
struct ForwardSums {
  const Arguments& args;
  const int64_t classes;
  double* out = nullptr;  // the chunk's partial sums
  int64_t slots[kClassColumns];
  std::unique_ptr<FoldedSum[]> sums;       // of rows: classes x kSums
  std::unique_ptr<FoldedMax<T>[]> maxima;  // of rows: classes x kExtrema
  // The labels' terms: for each sum up to kIntersection kScatterWays times classes + 1 numbers.
  std::unique_ptr<double[]> scattered[kIntersection + 1];
  std::unique_ptr<double[]> pairs;  // the same for true positives and false negatives together
  // Whether a class was the label of some pixel, one that is smoothed or not: 2 x (classes + 1).
  std::unique_ptr<uint8_t[]> seen;

  explicit ForwardSums(const Arguments& args)
      : args(args),
        classes(args.classes),
        sums(new FoldedSum[args.classes * kSums]),
        maxima(new FoldedMax<T>[args.classes * kExtrema]),
        pairs(new double[2 * kScatterWays * (args.classes + 1)]),
        seen(new uint8_t[2 * (args.classes + 1)]) {
    for (int i = 0; i < kClassColumns; ++i) slots[i] = args.slot(i);
    for (auto& sums : scattered) sums.reset(new double[kScatterWays * (classes + 1)]);
  }

  double* column(int index) const { return out + slots[index] * classes; }
  bool wants(int index) const { return jml::wants(args.columns, index); }

  void enter(double* partial) {
    out = partial;
    fill(out, args.partial_size(), 0.0);
    for (auto& sums : scattered) fill(sums.get(), kScatterWays * (classes + 1), 0.0);
    fill(pairs.get(), 2 * kScatterWays * (classes + 1), 0.0);
    fill(sums.get(), classes * kSums, FoldedSum());
    fill(maxima.get(), classes * kExtrema, FoldedMax<T>());
    fill(seen.get(), 2 * (classes + 1), uint8_t(0));
  }

  void leave() {
    for (int64_t c = 0; c < classes; ++c)
      for (int sum = 0; sum < kSums; ++sum) column(sum)[c] += sums[c * kSums + sum].total();
    for (int sum = 0; sum <= kIntersection; ++sum)
      for (int way = 0; way < kScatterWays; ++way)
        for (int64_t c = 0; c < classes; ++c)
          column(sum)[c] += scattered[sum][way * (classes + 1) + c];
    for (int way = 0; way < kScatterWays; ++way)
      for (int64_t c = 0; c < classes; ++c) {
        column(kTruePositive)[c] += pairs[2 * (way * (classes + 1) + c)];
        column(kFalseNegative)[c] += pairs[2 * (way * (classes + 1) + c) + 1];
      }
    if (labels() && wants(kTargetMax)) add_label_maxima();
    for (int64_t c = 0; c < classes; ++c) {
      double all = 0;
      for (int sum = 0; sum < kSums; ++sum) all += sums[c * kSums + sum].total();
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
    const bool overlaps = wants(kTruePositive) || wants(kFalsePositive) || wants(kFalseNegative);
    const bool only_overlap = !squares && !wants(kPredictionMax) && !wants(kJointMax);
    for (int64_t c = 0; c < classes; ++c) {
      T* x = tile.x + c * tile.stride;
      const T* y = labels ? tile.off : tile.y + c * tile.stride;
      FoldedSum* sum = sums.get() + c * kSums;
      if (labels && !tile.smooth && only_overlap) {
        dot_row(x, tile.scale, n, sum[kFalsePositive]);
        continue;
      }
      tile.next_dense.prefetch(c);
      if (overlaps)
        overlap_row(x, tile.scale, y, n, sum[kTruePositive], sum[kFalsePositive],
                    sum[kFalseNegative]);
      FoldedMax<T>* most = maxima.get() + c * kExtrema - kSums;
      if (wants(kTargetMax) && !labels) max_row<T>(y, nullptr, n, most[kTargetMax]);
      if (!wants(kIntersection) && only_overlap) continue;
      scale_row(x, tile.scale, n);
      if (wants(kIntersection)) dot_row(x, y, n, sum[kIntersection]);
      if (wants(kPredictionSquared)) dot_row(x, x, n, sum[kPredictionSquared]);
      if (wants(kTargetSquared)) dot_row(y, y, n, sum[kTargetSquared]);
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
    if (softmax && !tile.smooth) {  // tp = x <= 1, fn = 1 - x
      add_pairs(tile, tile.label_x, tile.label_miss);
      if (wants(kIntersection)) add_at_labels(tile, kIntersection, tile.label_x);
    } else {
      label_terms(tile.label_x, tile.on, tile.off, softmax ? tile.label_miss : nullptr,
                  tile.label_tp, tile.label_fp, tile.label_fn, tile.label_xy, tile.padded);
      add_pairs(tile, tile.label_tp, tile.label_fn);
      add_at_labels(tile, kFalsePositive, tile.label_fp);
      if (wants(kIntersection)) add_at_labels(tile, kIntersection, tile.label_xy);
    }
    if (wants(kTargetMax)) see_labels(tile);

    const auto at_labels = [&](auto visit) __attribute__((always_inline)) {
      for (int p = 0; p < tile.count; ++p)
        if (tile.row[p] < classes) visit(tile.row[p], tile.label_x[p], tile.on[p], tile.off[p]);
    };
    if (wants(kPredictionSquared) || wants(kTargetSquared))
      at_labels([&](int32_t c, T x, T on, T off) {
        sums[c * kSums + kPredictionSquared].lane[0] += double(x * x);
        sums[c * kSums + kTargetSquared].lane[0] += double(on * on - off * off);
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
    } else if (!tile.smooth) {
      for (int p = 0; p < count; ++p) hard[row[p]] = 1;
    } else if (args.boundary_size == 0) {
      for (int p = 0; p < count; ++p) hard[ways + row[p]] = 1;
    } else {
      for (int p = 0; p < count; ++p) hard[smoothed[p] * ways + row[p]] = 1;
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

  // True positives and false negatives, which every label has.
  void add_pairs(const Tile<T>& tile, const T* tp, const T* fn) {
    typedef double Pair __attribute__((vector_size(16)));
    const int32_t* row = tile.row;
    double* const sums = pairs.get();
    const int64_t ways = classes + 1;
    for (int p = 0, count = tile.count; p < count; ++p) {
      double* at = sums + 2 * ((p & (kScatterWays - 1)) * ways + row[p]);
      Pair sum;
      memcpy(&sum, at, sizeof(sum));
      sum += Pair{double(tp[p]), double(fn[p])};
      memcpy(at, &sum, sizeof(sum));
    }
  }

  // Neighbouring pixels go to different accumulators; the last row takes those without a label.
  void add_at_labels(const Tile<T>& tile, int sum, const T* value) {
    double* sums = scattered[sum].get();
    const int32_t* row = tile.row;
    for (int p = 0, count = tile.count; p < count; ++p)
      sums[(p & (kScatterWays - 1)) * (classes + 1) + row[p]] += double(value[p]);
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
  Tile<T> tile(args, args.dense.data != nullptr);
  ForwardSums<T> sums(args);
  int64_t entered = -1;
  for_tiles(
      args, begin, end,
      [&](int64_t, int64_t chunk) {
        if (entered >= 0) sums.leave();
        entered = chunk;
        sums.enter(args.partial + chunk * args.partial_size());
        args.bad_label[chunk] = -1;
      },
      [&](int64_t image, int64_t chunk, int64_t first, int count) {
        const int64_t bad = tile.load(image, first, count, nullptr);
        if (bad >= 0 && args.bad_label[chunk] < 0) args.bad_label[chunk] = bad;
        sums.add(tile);
      });
  if (entered >= 0) sums.leave();
}

// ---- backward ------------------------------------------------------------------------------

template <typename T>
void backward_of(const Arguments& args, int64_t begin, int64_t end) {
  const int64_t classes = args.classes;
  const bool labels = args.labels.data;
  const bool softmax = args.activation == Activation::softmax;
  const bool sigmoid = args.activation == Activation::sigmoid;
  Tile<T> tile(args, true);
  // The gradient rule of each class; the last, 0, is for pixels without a label.
  std::unique_ptr<GradientRule<T>[]> rules(new GradientRule<T>[classes + 1]());
  // With hard labels g is one number in a class, but at the label: dot grows with the softmax.
  std::unique_ptr<T[]> off_label(new T[classes]()), at_label(new T[classes + 1]());
  bool squares = false;

  const auto enter = [&](int64_t image, int64_t) {
    squares = false;
    for (int64_t c = 0; c < classes; ++c) {
      const auto grad = [&](int sum) {
        return T(args.grad_sums[(sum * args.images + image) * classes + c]);
      };
      rules[c] = gradient_rule(grad(kTruePositive), grad(kFalsePositive), grad(kFalseNegative),
                               grad(kIntersection), grad(kPredictionSquared));
      squares |= rules[c].d != 0;
      off_label[c] = rules[c].a + rules[c].b;               // x > y = 0
      at_label[c] = rules[c].a - rules[c].b + rules[c].c;  // x < y = 1
    }
  };

  const auto body = [&](int64_t image, int64_t, int64_t first, int count) {
    tile.load(image, first, count, softmax && labels && !squares ? off_label.get() : nullptr);
    const int n = tile.padded;
    const bool hard = softmax && labels && !tile.smooth && !squares;
    T *dot = tile.dot, *scale = tile.scale;
    if (!hard) fill(dot, n, T(0));
    for (int64_t c = 0; !hard && c < classes; ++c) {
      T *x = tile.x + c * tile.stride, *g = tile.y + c * tile.stride;
      tile.next_dense.prefetch(c);
      gradient_row(x, scale, labels ? tile.off : g, rules[c], g, dot, n);
    }
    T* label_g = tile.label_gradient;
    if (hard) {
      hard_label_gradient(tile.label_x, at_label.get(), tile.row, label_g, dot, n);
    } else if (labels) {
      gather_rules(rules.get(), tile.row, tile.label_tp, tile.label_fp, tile.label_fn,
                   tile.label_xy, n);
      label_gradient(tile.label_x, tile.on, tile.label_tp, tile.label_fp, tile.label_fn,
                     tile.label_xy, label_g, dot, n);
    }
    T* direct = nullptr;
    if (!args.integer_dense())
      direct = direct_rows<T>(args.grad, image, tile.runs(args.grad, first));
    const int width = direct ? count : n;
    const auto write = [&](auto has_labels) {
      T* label_z = tile.label_x;  // becomes the gradient at the label
      for (int p = 0; has_labels && p < n; ++p) {
        const T x = label_z[p];
        label_z[p] = softmax ? softmax_gradient(x, label_g[p], dot[p])
                     : sigmoid ? sigmoid_gradient(x, label_g[p])
                               : label_g[p];
      }
      for (int64_t c = 0; c < classes; ++c) {
        T *x = tile.x + c * tile.stride, *g = tile.y + c * tile.stride;
        T* out = direct ? direct + c * args.grad.class_stride : x;
        if (direct && c + kRowsAhead < classes)
          prefetch_row<1>(out + kRowsAhead * args.grad.class_stride, count);
        const auto put = [&](auto dz) {
          gradient_out<has_labels()>(tile.row, int32_t(c), label_z, out, width, dz);
        };
        const T hard_g = off_label[c];
        if (hard)
          put([=](int p) { return softmax_gradient(x[p] * scale[p], hard_g, dot[p]); });
        else if (softmax)
          put([=](int p) { return softmax_gradient(x[p], g[p], dot[p]); });
        else if (sigmoid)
          put([=](int p) { return sigmoid_gradient(x[p], g[p]); });
        else
          put([=](int p) { return g[p] * scale[p]; });
      }
    };
    if (labels)
      write(std::true_type());
    else
      write(std::false_type());
    if (args.integer_dense()) tile.clear_ignored(image, first);
    // clear_ignored took the room of grad_runs.
    if (!direct)
      store_tile(args.grad, image, tile.runs(args.grad, first), classes, tile.x, tile.stride);
  };
  for_tiles(args, begin, end, enter, body);
}

void statistics(const Arguments& args, int64_t begin, int64_t end) {
  if (args.logits.dtype == DType::f64)
    statistics_of<double>(args, begin, end);
  else
    statistics_of<float>(args, begin, end);
}

void statistics_backward(const Arguments& args, int64_t begin, int64_t end) {
  if (args.logits.dtype == DType::f64)
    backward_of<double>(args, begin, end);
  else
    backward_of<float>(args, begin, end);
}

}  // namespace jml::JML_ISA
