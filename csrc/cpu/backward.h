// The backward: the gradient of the tiles of a chunk.
//
//     x, y and the rule of each class -> dot = sum over classes of x * g, one number a pixel
//     x, y, the rule, dot             -> the gradient, with the label's own put in its place
//
// g is a few operations on x and y, and is made twice rather than kept. With hard labels it is one
// number in a class, but at the label: dot then grows with the softmax.
#pragma once

#include "gradient.h"
#include "tile.h"

namespace jml::JML_ISA {

template <typename T>
class Backward {
 public:
  explicit Backward(const Arguments& args)
      : args(args),
        classes(args.classes),
        labels(args.labels.data),
        tile(args),
        rules(new GradientRule<T>[classes + 1]()),
        off_label(new T[classes]()),
        at_label(new T[classes + 1]()) {}

  void enter(int64_t image) {
    squares = false;
    for (int64_t c = 0; c < classes; ++c) {
      const auto grad = [&](int sum) {
        return T(args.grad_sums[(sum * args.images + image) * classes + c]);
      };
      rules[c] = gradient_rule(grad(kTruePositive), grad(kFalsePositive), grad(kFalseNegative),
                               grad(kIntersection), grad(kPredictionSquared));
      squares |= rules[c].d != 0;
      off_label[c] = rules[c].a + rules[c].b;              // x > y = 0
      at_label[c] = rules[c].a - rules[c].b + rules[c].c;  // x < y = 1
    }
  }

  void write(const Pixels& pixels, const Pixels& next) {
    const bool softmax = args.activation == Activation::softmax;
    tile.load(pixels, next, softmax && labels && !squares ? off_label.get() : nullptr);
    // Where g is no constant. Without a softmax x may be 0 itself, with the sub-gradient of a tie.
    if (labels && (squares || args.activation == Activation::none))
      fill(tile.mixed, tile.padded / kBlock, uint8_t(1));
    if (softmax) find_dots();
    if (labels) find_label_gradient();
    if (softmax)
      write_rows<Activation::softmax>(pixels);
    else if (args.activation == Activation::sigmoid)
      write_rows<Activation::sigmoid>(pixels);
    else
      write_rows<Activation::none>(pixels);
  }

 private:
  const Arguments& args;
  const int64_t classes;
  const bool labels;
  Tile<T> tile;
  // Of each class; the last, 0, is for pixels without a label.
  std::unique_ptr<GradientRule<T>[]> rules;
  std::unique_ptr<T[]> off_label, at_label;  // g of a hard label
  bool squares = false;                      // whether g depends on x itself

  const T* target_row(int64_t c) const { return labels ? tile.off : tile.y + c * tile.stride; }

  void find_dots() {
    const auto find = [&](auto pixels, int p) __attribute__((always_inline)) {
      find_dot<pixels()>(tile.x, tile.scale, target_row(0), labels ? 0 : tile.stride, classes,
                         tile.stride, rules.get(), p, tile.dot, tile.dense_feed);
    };
    if (labels) {
      for (int p = 0; p < tile.padded; p += kBlock)
        if (tile.mixed[p / kBlock]) find(std::integral_constant<int, kBlock>(), p);
    } else {
      for (int p = 0; p < tile.padded; p += kRowStep<T>)
        find(std::integral_constant<int, kRowStep<T>>(), p);
    }
  }

  // The gradient of the logits of the labels, to which dot is lacking their own term.
  void find_label_gradient() {
    T *x = tile.label_x, *g = tile.label_gradient, *dot = tile.dot;
    const T *on = tile.on, *at_label = this->at_label.get();
    const GradientRule<T>* rules = this->rules.get();
    const int n = tile.padded;
    if (!any(tile.mixed, n / kBlock))
      for_labels(
          tile.row, tile.one_label, n,
          [&](int32_t c, int p)
              __attribute__((always_inline)) { fill(g + p, kBlock, at_label[c]); },
          [&](int32_t c, int p) __attribute__((always_inline)) { g[p] = at_label[c]; });
    else
      for_labels(
          tile.row, tile.one_label, n,
          [&](int32_t c, int p) __attribute__((always_inline)) {
            const GradientRule<T> rule = rules[c];
            for (int i = p; i < p + kBlock; ++i) g[i] = gradient(rule, x[i], on[i]);
          },
          [&](int32_t c, int p)
              __attribute__((always_inline)) { g[p] = gradient(rules[c], x[p], on[p]); });
    label_gradient(args.activation, x, g, dot, n);
  }

  template <Activation kActivation>
  void write_rows(const Pixels& pixels) {
    if (labels)
      write_rows<kActivation, true>(pixels);
    else
      write_rows<kActivation, false>(pixels);
  }

  template <Activation kActivation, bool kLabels>
  void write_rows(const Pixels& pixels) {
    T* direct = nullptr;  // where rows can be written straight to memory
    if (!args.integer_dense() && tile.count == tile.padded)
      direct = direct_rows<T>(args.grad, pixels.image, tile.runs(args.grad, pixels));
    const int64_t direct_stride = args.grad.class_stride;
    if (direct && args.stream_gradient && aligned(direct) && aligned(direct + direct_stride)) {
      write_rows<kActivation, kLabels, true>(direct, direct_stride);
    } else {
      write_rows<kActivation, kLabels, false>(direct ? direct : tile.x,
                                              direct ? direct_stride : tile.stride);
    }
    if (args.integer_dense()) tile.clear_ignored(pixels);
    if (!direct)
      store_tile(args.grad, pixels.image, tile.runs(args.grad, pixels), classes, tile.x,
                 tile.stride);
  }

  template <Activation kActivation, bool kLabels, bool kStream>
  void write_rows(T* out, int64_t out_stride) {
    const GradientRows<T> rows{tile.scale, tile.dot, tile.mixed, tile.row, tile.label_x};
    for (int64_t c = 0; c < classes; ++c)
      gradient_row<kActivation, kLabels, kStream>(rows, tile.x + c * tile.stride, target_row(c),
                                                  rules[c], int32_t(c), kLabels && tile.here[c],
                                                  out + c * out_stride, tile.padded);
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
