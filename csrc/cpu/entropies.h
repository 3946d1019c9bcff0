// The cross-entropies of a tile, by the rows of cross_entropy.h: from the softmax of the logits as
// it is made, or from the logits before it where they need other numbers.
#pragma once

#include "activation.h"
#include "cross_entropy.h"
#include "tile.h"

namespace jml::JML_ISA {

// What a pass wants of a tile beside x and y.
template <typename T>
struct Wanted {
  // Forward: entropies, one number for each pixel.
  bool label_entropy = false, dense_entropy = false, teacher_entropy = false;
  // Backward: the gradients of the cross-entropies, and, with labels, a number for each class of
  // which `dot` is to be the sum with x.
  T label_q = 0, dense_q = 0;
  const T* dot_rule = nullptr;
};

template <typename T>
class Entropies {
 public:
  explicit Entropies(Tile<T>& tile) : tile(tile), args(tile.args), classes(tile.classes) {}

  // While x holds logits, and the labels' are in their places.
  void before_activation(const Wanted<T>& wanted) {
    if (args.has_labels()) place_weights();
    if (args.separate_entropy()) separate(wanted);
    if (wanted.label_entropy && tile.smooth && is(Activation::softmax)) find_gaps();
  }

  // Whether the softmax is to sum w y as it goes. A teacher's probabilities add up to 1.
  bool in_softmax(const Wanted<T>& wanted) const {
    return !args.separate_dense_entropy() &&
           (wanted.dense_entropy || (wanted.dense_q != 0 && !args.unit_share()));
  }

  void after_activation(const Wanted<T>& wanted) {
    if (!is(Activation::softmax)) return;
    const int n = tile.padded;
    if (wanted.label_entropy && tile.smooth)
      label_entropy(tile.lead, tile.rest, tile.label_weight, tile.weight_sum, tile.gaps, tile.on,
                    tile.off, tile.label_entropy, n);
    else if (wanted.label_entropy)
      label_entropy(tile.lead, tile.rest, tile.label_weight, tile.label_entropy, n);
    if (args.separate_dense_entropy()) return;
    const T* own = args.has_labels() ? tile.label_y : nullptr;
    if (args.unit_share()) {
      tile.dense_share = tile.valid;
    } else {
      tile.dense_share = tile.share;
      if (own) add_row(own, n, tile.share);
    }
    if (wanted.dense_entropy)
      dense_entropy(tile.spread, tile.dense_share, tile.rest, tile.lead, own, tile.dense_entropy,
                    n);
  }

 private:
  Tile<T>& tile;
  const Arguments& args;
  const int64_t classes;

  bool is(Activation activation) const { return args.activation == activation; }
  T* x_row(int64_t c) const { return tile.x + c * tile.stride; }
  T* y_row(int64_t c) const { return tile.y + c * tile.stride; }
  T* pull_row(int64_t c) const { return tile.pull + c * tile.stride; }

  void place_weights() {
    if (!args.ce_class_weights) return;
    for (int p = 0; p < tile.padded; ++p) tile.weight[p] = tile.label_weights[tile.row[p]];
    tile.label_weight = tile.weight;
  }

  // Of each label and class: the sum of w_c (z_c - z) over the classes, where off is not 0.
  void find_gaps() {
    const int n = tile.padded;
    const T* label = tile.lead;  // for now
    for (int p = 0; p < n; ++p)
      tile.lead[p] = tile.row[p] < classes ? x_row(tile.row[p])[p] : T(0);
    fill(tile.gaps, n, T(0));
    for (int64_t c = 0; c < classes; ++c)
      for (int p = 0; p < n && tile.label_weights[c] != 0; p += kBlock)
        if (tile.mixed[p / kBlock])
          add_gap(x_row(c) + p, label + p, tile.label_weights[c], tile.gaps + p, kBlock);
  }

  void separate(const Wanted<T>& wanted) {
    const bool gradient = wanted.label_q != 0 || wanted.dense_q != 0;
    if (gradient && !is(Activation::softmax)) fill(tile.pull, classes * tile.stride, T(0));
    if (is(Activation::softmax)) return temper(wanted);
    if (is(Activation::sigmoid))
      each_entropy<Activation::sigmoid>(wanted);
    else
      each_entropy<Activation::none>(wanted);
  }

  template <Activation kActivation>
  void each_entropy(const Wanted<T>& wanted) {
    const int n = tile.padded;
    const bool independent = args.independent();
    const auto against = [&](bool entropy, T* out, T q, const T* weights, T temperature,
                             auto target) {
      if (entropy) fill(out, n, T(0));
      for (int64_t c = 0; c < classes; ++c) {
        if (entropy)
          add_entropy<kActivation>(x_row(c), target(c), weights[c], temperature, independent, out,
                                   n);
        if (q != 0)
          add_pull<kActivation>(x_row(c), target(c), q * weights[c] / temperature, temperature,
                                independent, tile.valid, pull_row(c), n);
      }
    };
    const auto label = [&](int64_t c) {
      return RowTarget<T>{nullptr, tile.row, int32_t(c), tile.on, tile.off};
    };
    against(wanted.label_entropy, tile.label_entropy, wanted.label_q, tile.label_weights, T(1),
            label);
    against(wanted.dense_entropy, tile.dense_entropy, wanted.dense_q, tile.dense_weights,
            T(args.student_temperature), [&](int64_t c) { return RowTarget<T>{y_row(c)}; });
  }

  // The cross-entropy of a dense target at a temperature of its own: another softmax.
  void temper(const Wanted<T>& wanted) {
    if (!wanted.dense_entropy && wanted.dense_q == 0) return;
    const int n = tile.padded;
    const T temperature = T(args.student_temperature);
    for (int64_t c = 0; c < classes; ++c) divide_row(x_row(c), temperature, n, pull_row(c));
    SoftmaxRows<T> rows{tile.valid, tile.other_scale};
    rows.rest = tile.other_rest;
    rows.y = tile.y;
    rows.weight = tile.dense_weights;
    rows.spread = tile.spread;
    rows.share = tile.share;
    Feed none;
    softmax_tile<false, false, Against::target>(tile.pull, classes, tile.stride, n, rows, none);
    if (wanted.dense_entropy)
      dense_entropy<T>(tile.spread, tile.share, tile.other_rest, nullptr, nullptr,
                       tile.dense_entropy, n);
    for (int64_t c = 0; wanted.dense_q != 0 && c < classes; ++c)
      softmax_pull(pull_row(c), tile.other_scale, tile.share, y_row(c),
                   wanted.dense_q / temperature, tile.dense_weights[c], n);
  }
};

}  // namespace jml::JML_ISA
