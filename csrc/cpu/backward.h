// The backward: the gradient of the tiles of a chunk.
//
//     x, y and the rule of each class -> dot = sum over classes of x * g, one number a pixel
//     x, y, the rule, dot             -> the gradient, with the label's own put in its place
//
// g is a few operations on x and y, and is made twice rather than kept. With hard labels it is one
// number in a class, but at the label: dot then grows with the softmax. Of labels and a dense
// target the rules are added.
//
// The cross-entropy of a softmax pulls each logit by q w_c y_c, and by -x_c times the sum of that
// over the classes, which is one number a pixel: it is taken off dot.
#pragma once

#include "gradient.h"
#include "tile_load.h"

namespace jml::JML_ISA {

// How the gradients of a target's sums act on the classes of an image.
template <typename T>
struct TargetRules {
  // Of each class; the last, 0, is for pixels without a label.
  std::unique_ptr<GradientCoefficients<T>[]> rules;
  std::unique_ptr<T[]> pull;  // q w_c
  T q = 0;                    // of the cross-entropy
  bool squares = false;       // whether g depends on x itself

  explicit TargetRules(int64_t classes)
      : rules(new GradientCoefficients<T>[classes + 1]()), pull(new T[classes + 1]()) {}

  void enter(const Arguments& args, int target, int64_t image, const T* weights) {
    const int64_t n = args.images, classes = args.classes;
    const double* grad_sums = args.grad_sums + target * kSums * n * classes;
    squares = false;
    for (int64_t c = 0; c < classes; ++c) {
      const auto grad = [&](int sum) {
        return args.columns(target).wants(sum) ? T(grad_sums[(sum * n + image) * classes + c])
                                               : T(0);
      };
      rules[c] = gradient_coefficients(grad(kTruePositive), grad(kFalsePositive), grad(kFalseNegative),
                               grad(kIntersection), grad(kPredictionSquared));
      squares |= rules[c].of_probability != 0;
    }
    const bool entropy = args.columns(target).wants(kCrossEntropy);
    q = entropy ? T(args.grad_totals[target * kTotals * n + image]) : T(0);
    for (int64_t c = 0; c < classes; ++c) pull[c] = q * weights[c];
  }
};

template <typename T>
class Backward {
 public:
  explicit Backward(const Arguments& args)
      : args(args),
        classes(args.classes),
        with_labels(args.has_labels()),
        with_dense(args.has_dense()),
        tile(args),
        loader(tile),
        labels(classes),
        dense(classes),
        off_label(new T[classes]()),
        at_label(new T[classes + 1]()) {}

  void enter(int64_t image) {
    if (with_labels) labels.enter(args, 0, image, tile.label_weights);
    if (with_dense) dense.enter(args, args.targets() - 1, image, tile.dense_weights);
    for (int64_t c = 0; c < classes; ++c) {
      const GradientCoefficients<T>& rule = labels.rules[c];
      off_label[c] = rule.constant + rule.of_sign;           // x > y = 0
      at_label[c] = rule.constant - rule.of_sign + rule.of_target;  // x < y = 1
    }
    wanted = Wanted<T>();
    wanted.label_q = labels.q;
    wanted.dense_q = dense.q;
    if (is_softmax() && with_labels && !labels.squares) wanted.dot_rule = off_label.get();
  }

  void write(const Pixels& pixels, const Pixels& next) {
    loader.load(pixels, next, wanted);
    // Where g is no constant. Without a softmax x may be 0 itself, with the sub-gradient of a tie.
    if (with_labels && (labels.squares || args.activation == Activation::none))
      fill(tile.mixed, tile.padded / kBlock, uint8_t(1));
    if (is_softmax()) find_dots();
    if (with_labels) find_label_gradient();
    if (is_softmax()) take_pulls();
    if (is_softmax())
      write_rows<Activation::softmax>(pixels);
    else if (args.activation == Activation::sigmoid)
      write_rows<Activation::sigmoid>(pixels);
    else
      write_rows<Activation::none>(pixels);
  }

 private:
  const Arguments& args;
  const int64_t classes;
  const bool with_labels, with_dense;
  Tile<T> tile;
  TileLoader<T> loader;
  TargetRules<T> labels, dense;
  std::unique_ptr<T[]> off_label, at_label;  // g of a hard label
  Wanted<T> wanted;

  bool is_softmax() const { return args.activation == Activation::softmax; }
  // Whether a cross-entropy's pull is part of the softmax', and not in tile.pull.
  bool pulls_labels() const { return is_softmax() && labels.q != 0; }
  bool pulls_dense() const { return !args.separate_dense_entropy() && dense.q != 0; }

  void find_dots() {
    T* dot = tile.dot;
    if (!wanted.dot_rule) fill(dot, tile.padded, T(0));
    Feed none;
    for (int p = 0; with_labels && p < tile.padded; p += kBlock) {
      if (!tile.mixed[p / kBlock]) continue;
      fill(dot + p, kBlock, T(0));
      add_dot<kBlock>(tile.x, tile.scale, tile.off, 0, classes, tile.stride, labels.rules.get(), p,
                      dot, none);
    }
    for (int p = 0; with_dense && p < tile.padded; p += kRowStep<T>)
      add_dot<kRowStep<T>>(tile.x, tile.scale, tile.y, tile.stride, classes, tile.stride,
                           dense.rules.get(), p, dot, tile.dense_feed);
  }

  // The cross-entropies' part of the gradient that is x times one number for a pixel.
  void take_pulls() {
    T* dot = tile.dot;
    const int n = tile.padded;
    if (pulls_labels() && tile.smooth)
      take_pull(tile.label_weight, tile.on, tile.off, tile.weight_sum, labels.q, dot, n);
    else if (pulls_labels())
      take_pull(tile.label_weight, labels.q, dot, n);
    if (pulls_dense()) take_pull(tile.dense_share, dense.q, dot, n);
  }

  // The gradient of the logits of the labels, to which dot is lacking their own term. Their
  // cross-entropy is not by way of dot: x - 1 is -miss, with the digits of a confident prediction.
  void find_label_gradient() {
    T *x = tile.label_x, *pull = tile.label_pull;
    const int n = tile.padded;
    const bool pulls = pulls_labels() || pulls_dense();
    if (pulls) fill(pull, n, T(0));
    if (pulls_labels())
      add_label_pull(x, tile.label_miss, tile.label_weight, tile.on, tile.off, tile.weight_sum,
                     labels.q, pull, n);
    if (pulls_dense())
      add_label_pull(x, tile.label_y, tile.dense_share, dense.q, pull, n);
    const bool hard = !any(tile.mixed, n / kBlock);
    if (hard && with_dense)
      find_label_rules<false, true>();
    else if (hard)
      find_label_rules<false, false>();
    else if (with_dense)
      find_label_rules<true, true>();
    else
      find_label_rules<true, false>();
    label_gradient(args.activation, x, tile.label_gradient, tile.dot, n);
    if (pulls) subtract_row(pull, n, x);
  }

  // g of the labels, by blocks of one label or pixel by pixel.
  template <bool kSmooth, bool kDense>
  void find_label_rules() {
    const auto find = [&](auto pixels, int32_t c, int p) __attribute__((always_inline)) {
      label_rules<kSmooth, kDense, pixels()>(at_label[c], labels.rules[c], dense.rules[c],
                                             tile.label_x + p, tile.on + p, tile.label_y + p,
                                             tile.label_gradient + p);
    };
    for_labels(
        tile.row, tile.one_label, tile.padded,
        [&](int32_t c, int p) __attribute__((always_inline)) {
          find(std::integral_constant<int, kBlock>(), c, p);
        },
        [&](int32_t c, int p) __attribute__((always_inline)) {
          find(std::integral_constant<int, 1>(), c, p);
        });
  }

  template <Activation kActivation>
  void write_rows(const Pixels& pixels) {
    if (with_labels && with_dense)
      write_rows<kActivation, true, true>(pixels);
    else if (with_labels)
      write_rows<kActivation, true, false>(pixels);
    else
      write_rows<kActivation, false, true>(pixels);
  }

  template <Activation kActivation, bool kLabels, bool kDense>
  void write_rows(const Pixels& pixels) {
    T* direct = nullptr;  // where rows can be written straight to memory
    if (!args.integer_dense() && tile.count == tile.padded)
      direct = direct_rows<T>(args.grad, pixels.image, tile.runs(args.grad, pixels));
    const int64_t direct_stride = args.grad.class_stride;
    if (direct && args.stream_gradient && aligned(direct) && aligned(direct + direct_stride)) {
      write_rows<kActivation, kLabels, kDense, true>(direct, direct_stride);
    } else {
      write_rows<kActivation, kLabels, kDense, false>(direct ? direct : tile.x,
                                                      direct ? direct_stride : tile.stride);
    }
    if (args.integer_dense()) clear_ignored(pixels);
    if (!direct)
      store_tile(args.grad, pixels.image, tile.runs(args.grad, pixels), classes, tile.x,
                 tile.stride);
  }

  template <Activation kActivation, bool kLabels, bool kDense, bool kStream>
  void write_rows(T* out, int64_t out_stride) {
    const bool pulled = args.separate_entropy() && (labels.q != 0 || dense.q != 0);
    const bool separate = pulled && !(is_softmax() && dense.q == 0);
    for (int64_t c = 0; c < classes; ++c) {
      GradientRow<T> row{labels.rules[c], dense.rules[c]};
      row.label_pull = pulls_labels() ? labels.pull[c] : T(0);
      row.dense_pull = pulls_dense() ? dense.pull[c] : T(0);
      row.pull = separate ? tile.pull + c * tile.stride : nullptr;
      row.c = int32_t(c);
      row.here = kLabels && tile.here[c];
      gradient_row<kActivation, kLabels, kDense, kStream>(
          tile, row, tile.x + c * tile.stride, tile.y + c * tile.stride, out + c * out_stride);
    }
  }

  // An ignored element of an integer target has no gradient.
  void clear_ignored(const Pixels& pixels) {
    T *x = tile.x, *y = tile.y;
    load_tile(args.dense, pixels.image, tile.runs(args.dense, pixels), classes, y, tile.stride);
    for (int64_t c = 0; c < classes; ++c)
      for (int p = 0; p < tile.count; ++p)
        if (y[c * tile.stride + p] == T(args.ignore_index)) x[c * tile.stride + p] = 0;
  }

  static bool aligned(const T* row) {
    return reinterpret_cast<uintptr_t>(row) % kVectorBytes == 0;
  }
};

template <typename T>
void backward_of(const Arguments& args, int64_t begin, int64_t end) {
  Backward<T> backward(args);
  int64_t entered = -1;
  for_tiles(args, begin, end, [&](int64_t, const Pixels& pixels, const Pixels& next) {
    if (pixels.image != entered) backward.enter(entered = pixels.image);
    backward.write(pixels, next);
  });
  end_streams();
}

}  // namespace jml::JML_ISA
