// From tensors to a tile: everything about its pixels that statistics and gradient are made of.
//
//     labels -> codes -> on, off           what the target is at the label and elsewhere
//     logits, dense -> x, y (classes x pixels)                                     TileReader
//     a teacher's y -> its probabilities
//     take the label's logit out of the tile: what stays has the target `off`, one row for all
//         classes, and the label's own terms are one number a pixel; beside labels y is taken out
//         in the same place
//     x -> e^(x - largest), its sum        x = e * scale, scale = valid / sum
//
// Cross-entropies are made on the way: entropies.h.
#pragma once

#include "entropies.h"
#include "labels.h"

namespace jml::JML_ISA {

template <typename T>
class TileLoader {
 public:
  explicit TileLoader(Tile<T>& tile)
      : tile(tile), args(tile.args), classes(tile.classes), entropies(tile) {}

  // The pixels that are to come next are copied meanwhile. Returns the position of the first label
  // out of range, -1 if there is none.
  int64_t load(const Pixels& pixels, const Pixels& next, const Wanted<T>& wanted) {
    tile.count = pixels.count;
    tile.padded = (pixels.count + kRowStep<T> - 1) / kRowStep<T> * kRowStep<T>;
    int64_t bad = load_valid(pixels);
    tile.logits.load(pixels, tile.padded);
    tile.x = tile.logits.tile;
    if (!tile.all_valid) clear_invalid(tile.x);
    if (args.has_dense()) bad = std::max(bad, load_dense(pixels, next, wanted));
    entropies.before_activation(wanted);
    if (args.has_labels()) {
      take_labels(tile.x, nothing(), tile.label_x);
      if (args.has_dense()) take_labels(tile.y, T(0), tile.label_y);
    }
    activate(next, wanted);
    entropies.after_activation(wanted);
    return bad;
  }

 private:
  Tile<T>& tile;
  const Arguments& args;
  const int64_t classes;
  Entropies<T> entropies;

  bool is(Activation activation) const { return args.activation == activation; }
  T* x_row(int64_t c) const { return tile.x + c * tile.stride; }
  T* y_row(int64_t c) const { return tile.y + c * tile.stride; }

  // The logit of probability 0.
  T nothing() const {
    return is(Activation::none) ? T(0) : -std::numeric_limits<T>::infinity();
  }

  // ---- which pixels count, and their labels ------------------------------------------------

  int64_t load_valid(const Pixels& pixels) {
    const int count = tile.count, padded = tile.padded;
    T* valid = tile.valid;
    if (!args.has_labels() || args.mask.given || args.binary()) fill(valid, count, T(1));
    fill(valid + count, padded - count, T(0));
    if (args.mask.given) {
      const auto* data = static_cast<const uint8_t*>(args.mask.data);
      load_row(data + pixels.image * args.mask.image_stride, tile.runs(args.mask, pixels), valid);
    }
    if (!args.has_labels()) {
      tile.all_valid = count_valid(valid, padded) == padded;
      return -1;
    }
    int32_t *code = tile.code, *row = tile.row;
    load_codes(args, pixels.image, tile.runs(args.labels, pixels), code);
    fill(code + count, padded - count, kIgnored);
    const int32_t none = int32_t(classes);
    const int valid_count =
        args.mask.given || args.binary()
            ? place_labels(code, int32_t(args.binary()), none, valid, row, padded)
            : place_labels(code, none, valid, row, padded);
    tile.all_valid = valid_count == padded;
    find_regions(row, tile.one_label, padded);
    // A masked pixel may hold any label. Of the others the first that is no class is reported.
    int64_t bad = -1;
    for (int p = count - 1; !tile.all_valid && p >= 0; --p)
      if (code[p] == kOutOfRange && masked_in(pixels.image, pixels.first + p))
        bad = pixels.first + p;
    load_target(pixels);
    return bad;
  }

  bool masked_in(int64_t image, int64_t pixel) const {
    if (!args.mask.given) return true;
    Run one;
    const Runs where(args.mask, args.spatial, {image, pixel, 1}, &one);
    return static_cast<const uint8_t*>(
        args.mask.data)[image * args.mask.image_stride + one.offset];
  }

  void load_target(const Pixels& pixels) {
    const int padded = tile.padded;
    const T epsilon = T(args.label_smoothing), labels = T(args.label_count());
    bool& smooth = tile.smooth;
    smooth = epsilon != 0;
    const bool boundary_only = smooth && args.boundary_size > 0;
    int32_t* boundary = tile.boundary;
    if (boundary_only) {
      boundary_pixels(args, pixels, tile.code, tile.lowest, tile.highest, boundary);
      fill(boundary + tile.count, padded - tile.count, int32_t(0));
    }
    for (int block = 0; block < padded / kBlock; ++block)
      tile.mixed[block] = boundary_only ? any(boundary + block * kBlock, kBlock) : smooth;
    smooth = any(tile.mixed, padded / kBlock);
    tile.on = smooth ? tile.smooth_on : tile.valid;
    tile.off = smooth ? tile.smooth_off : tile.zero;
    if (smooth)
      target_row(boundary_only ? boundary : nullptr, epsilon, labels, tile.valid, tile.on,
                 tile.off, padded);
  }

  // A pixel that does not count gets logits 0, so that NaN in it goes nowhere.
  void clear_invalid(T* rows) {
    for (int64_t c = 0; c < classes; ++c)
      keep_valid(rows + c * tile.stride, tile.valid, tile.padded);
  }

  // The label's place in the rows keeps `left`.
  void take_labels(T* rows, T left, T* taken) {
    const int64_t stride = tile.stride;
    uint8_t* here = tile.here;
    fill(rows + classes * stride, tile.padded, left);
    fill(here, classes + 1, uint8_t(0));
    for_labels(
        tile.row, tile.one_label, tile.padded,
        [&](int32_t c, int p) __attribute__((always_inline)) {
          T* place = rows + c * stride + p;
          copy(place, kBlock, taken + p);
          fill(place, kBlock, left);
          here[c] = 1;
        },
        [&](int32_t c, int p) __attribute__((always_inline)) {
          T& place = rows[c * stride + p];
          taken[p] = place;
          place = left;
          here[c] = 1;
        });
  }

  // ---- the dense target --------------------------------------------------------------------

  int64_t load_dense(const Pixels& pixels, const Pixels& next, const Wanted<T>& wanted) {
    tile.dense_feed.finish();
    tile.dense.load(pixels, tile.padded);
    tile.y = tile.dense.tile;
    if (!tile.all_valid) clear_invalid(tile.y);
    const int64_t bad = args.integer_dense() ? smooth_integers(pixels.first) : -1;
    tile.dense_feed = tile.dense.feed(next);
    if (args.teacher) teach(wanted.teacher_entropy);
    return bad;
  }

  // Independent labels 0 and 1: smoothed as two classes; one that is ignored counts nowhere, as
  // does x = y = 0.
  int64_t smooth_integers(int64_t first) {
    const T ignore = T(args.ignore_index);
    const LabelTarget<T> target = label_target(T(args.label_smoothing), T(2));
    int64_t bad = -1;
    tile.elements = 0;
    for (int p = tile.count - 1; p >= 0; --p) {
      if (tile.valid[p] == 0) continue;
      int64_t counted = 0;
      for (int64_t c = classes - 1; c >= 0; --c) {
        T& label = y_row(c)[p];
        if (label == ignore) {
          label = 0;
          x_row(c)[p] = nothing();
          continue;
        }
        ++counted;
        const int64_t position = c * args.pixels + first + p;
        if (label != 0 && label != 1) bad = bad < 0 ? position : std::min(bad, position);
        label = label == 1 ? target.at_label : target.elsewhere;
      }
      tile.elements += counted;
      tile.valid[p] = counted ? T(1) : T(0);
    }
    return bad;
  }

  // A teacher's logits become its probabilities.
  void teach(bool entropy) {
    const int n = tile.padded;
    const T temperature = T(args.teacher_temperature);
    for (int64_t c = 0; temperature != 1 && c < classes; ++c)
      divide_row(y_row(c), temperature, n, y_row(c));
    SoftmaxRows<T> rows{tile.valid, tile.other_scale};
    if (!is(Activation::softmax)) {
      if (entropy) fill(tile.teacher_entropy, n, T(0));
      for (int64_t c = 0; is(Activation::sigmoid) && c < classes; ++c)
        teach_row(y_row(c), tile.valid, entropy ? tile.teacher_entropy : nullptr, n);
    } else if (entropy) {
      rows.rest = tile.other_rest;
      rows.spread = tile.spread;
      rows.share = tile.share;
      softmax_tile<false, false, Against::itself, true>(tile.y, classes, tile.stride, n, rows,
                                                        tile.dense_feed);
      jml::JML_ISA::dense_entropy<T>(tile.spread, tile.share, tile.other_rest, nullptr, nullptr,
                                     tile.teacher_entropy, n);
    } else {
      softmax_tile<false, false, Against::none, true>(tile.y, classes, tile.stride, n, rows,
                                                      tile.dense_feed);
    }
  }

  // ---- activation --------------------------------------------------------------------------

  void activate(const Pixels& next, const Wanted<T>& wanted) {
    const int n = tile.padded;
    const bool labels = args.has_labels();
    Feed feed = tile.logits.feed(next);
    if (is(Activation::softmax)) {
      SoftmaxRows<T> rows{tile.valid, tile.scale, tile.label_x, tile.label_miss, wanted.dot_rule,
                          tile.dot};
      const bool with_dense = entropies.in_softmax(wanted);
      if (wanted.label_entropy) rows.lead = tile.lead;
      if (wanted.label_entropy || with_dense) rows.rest = tile.rest;
      if (with_dense) {
        rows.lead = tile.lead;
        rows.y = tile.y;
        rows.weight = tile.dense_weights;
        rows.spread = tile.spread;
        rows.share = tile.share;
      }
      const auto run = [&](auto labels, auto dot, auto against) {
        softmax_tile<labels(), dot(), against()>(tile.x, classes, tile.stride, n, rows, feed);
      };
      using Yes = std::true_type;
      using No = std::false_type;
      const auto choose = [&](auto against) {
        if (wanted.dot_rule) return run(Yes(), Yes(), against);
        if (labels) return run(Yes(), No(), against);
        run(No(), No(), against);
      };
      if (with_dense && args.unit_share())
        choose(std::integral_constant<Against, Against::unit>());
      else if (with_dense)
        choose(std::integral_constant<Against, Against::target>());
      else
        choose(std::integral_constant<Against, Against::none>());
    } else {
      for (int64_t c = 0; is(Activation::sigmoid) && c < classes; ++c) sigmoid_row(x_row(c), n);
      if (is(Activation::sigmoid) && labels) sigmoid_row(tile.label_x, n);
      copy(tile.valid, n, tile.scale);
    }
    feed.finish();
  }

};

}  // namespace jml::JML_ISA
