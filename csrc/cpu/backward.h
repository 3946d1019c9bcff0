// The backward: the gradient of the tiles of a chunk.
//
//     x, y, coefficients of each class -> dot = sum over classes of p g, one number for each pixel
//     x, y, coefficients, dot -> the gradient, with that of the label's logit put in its place
//
// g, the gradient of the loss by p, is a few operations on p and y, and is made twice rather than
// kept. With hard labels it is one number in a class, but at the label: dot then grows with the
// softmax. With labels and a dense target the g of both are added.
//
// The cross-entropy of a softmax adds q p_c M - q w_c y_c (cross_entropy.h): q M is taken off dot,
// and q w_c is one more coefficient of each class.
#pragma once

#include "tile_load.h"

namespace jml::JML_ISA {

// ---- rows ----------------------------------------------------------------------------------

// The gradient by p of one class (pixel_math.h).
template <typename T>
JML_MATH Vector<T> overlap_gradient(const GradientCoefficients<T>& coefficients, Vector<T> p,
                                    Vector<T> y) {
  using V = Vector<T>;
  const V above = V{} + coefficients.half_above, below = V{} + coefficients.half_below;
  const V side = (p < y ? below : above) + (p > y ? above : below);
  return side + coefficients.of_target * y + coefficients.of_probability * p;
}

// dot += sum over classes of p g for the pixels first, first + 1, ...; y_stride is 0 where all
// classes have one target. With kSomeIgnored some elements of y are ignored (values.h). Meanwhile
// the prefetch copies the next target, of which `prefetched` gets the largest bits.
template <int kPixels, bool kSomeIgnored, typename T>
JML_MATH void add_dot(const T* x, const T* scale, const T* y, int64_t y_stride, int64_t classes,
                      int64_t stride, const GradientCoefficients<T>* coefficients, int first,
                      T* dot, Prefetch& prefetch, LargestBits<float>& prefetched) {
  using V = Vector<T>;
  constexpr int kVectors = kPixels / kWidth<T>;
  V factor[kVectors], sum[kVectors];
  LargestBits<float> largest = prefetched;  // in registers
  for (int k = 0; k < kVectors; ++k) {
    factor[k] = load(scale, first + k * kWidth<T>);
    sum[k] = load(dot, first + k * kWidth<T>);
  }
  for (int64_t c = 0; c < classes; ++c)
    for (int k = 0; k < kVectors; ++k) {
      const int i = first + k * kWidth<T>;
      const V p = load(x + c * stride, i) * factor[k], target = load(y + c * y_stride, i);
      const V g = overlap_gradient<T>(coefficients[c], p, target);
      sum[k] += p * (kSomeIgnored ? if_counted<T>(target, g) : g);
      if (k % 2) prefetch.step(largest);
    }
  prefetched = largest;
  for (int k = 0; k < kVectors; ++k) store(dot, first + k * kWidth<T>, sum[k]);
}

// g at the label, of kPixels pixels whose labels are one class: with hard labels, where p < y = 1,
// it is `hard`. y is the dense target of that class.
template <bool kSmooth, bool kDense, int kPixels, typename T>
JML_MATH void find_g_of_block(T hard, const GradientCoefficients<T>& labels,
                              const GradientCoefficients<T>& dense, const T* __restrict p,
                              const T* __restrict target_at_label, const T* __restrict y,
                              T* __restrict g) {
  for (int i = 0; i < kPixels; ++i) {
    T sum = kSmooth ? jml::overlap_gradient(labels, p[i], target_at_label[i]) : hard;
    if (kDense) sum += jml::overlap_gradient(dense, p[i], y[i]);
    g[i] = sum;
  }
}

// The gradient by the label's logit, whose own term is lacking in dot, and is added. Of a softmax it
// is p (g - dot), where g - p g = g p_not has the digits of a confident prediction.
template <typename T>
void find_label_dz(Activation activation, const T* __restrict p, const T* __restrict p_not,
                   const T* __restrict g, T* __restrict dot, T* __restrict dz, int n) {
  if (activation == Activation::softmax)
    for (int i = 0; i < n; ++i) {
      dz[i] = p[i] * (g[i] * p_not[i] - dot[i]);
      dot[i] += p[i] * g[i];
    }
  else if (activation == Activation::sigmoid)
    for (int i = 0; i < n; ++i) dz[i] = sigmoid_gradient(p[i], p_not[i], g[i]);
  else
    copy(g, n, dz);
}

// Takes `label` for pixels whose label has row c, and `other` for the rest.
template <typename T>
JML_MATH Vector<T> select_label(const int32_t* row, int32_t c, Vector<T> label, Vector<T> other) {
  typedef int32_t Rows __attribute__((vector_size(kWidth<T> * sizeof(int32_t))));
  typedef std::conditional_t<sizeof(T) == sizeof(int32_t), int32_t, int64_t> Wide;
  typedef Wide Mask __attribute__((vector_size(kVectorBytes)));
  Rows rows;
  memcpy(&rows, row, sizeof(rows));
  if constexpr (sizeof(T) == sizeof(int32_t))
    return rows == c ? label : other;
  else
    return __builtin_convertvector(rows, Mask) == c ? label : other;
}

// What makes the gradient of a class beside the tile.
template <typename T>
struct ClassGradient {
  GradientCoefficients<T> labels, dense;
  T label_qw = 0, dense_qw = 0;          // q w_c of cross-entropies of the logits' own softmax
  const T* minus_ce_gradient = nullptr;  // of all other cross-entropies: a row, or null
  const uint8_t* g_varies = nullptr;     // B: whether g of labels is no constant in a block
  int32_t c = 0;
  bool class_present = false;  // whether it is the label of some pixel
};

// out <- the gradient of the logits of a class. With kSomeIgnored some elements of the dense target
// are ignored (values.h): beside labels there are none.
template <Activation kActivation, bool kLabels, bool kDense, bool kSomeIgnored, bool kStream,
          typename T>
JML_MATH void gradient_row(const Tile<T>& tile, const ClassGradient<T>& of, T* out) {
  using V = Vector<T>;
  // Stores to `out` may change anything as far as the compiler knows: pointers are read before.
  const T *x = tile.x_row(of.c), *y = kDense ? tile.y_row(of.c) : nullptr;
  const T *scale = tile.softmax.scale, *dot = tile.softmax.dot, *p_not = tile.p_not;
  const T *target_elsewhere = tile.label.target_elsewhere, *label_dz = tile.label.dz;
  const T* minus_ce_gradient = of.minus_ce_gradient;
  const int32_t* label_row = tile.label.row;
  const uint8_t* g_varies = of.g_varies;
  const int n = tile.padded;
  // With labels: in blocks that do not vary y = 0 < p, and g is this.
  const V constant_g = V{} + 2 * of.labels.half_above;
  for (int i = 0; i < n; i += kWidth<T>) {
    const V factor = load(scale, i), p = load(x, i) * factor;
    const V dense_target = kDense ? load(y, i) : V{};
    V g = {}, qwy = {};
    if (kLabels && g_varies[i / kBlock]) {
      const V target = load(target_elsewhere, i);
      g = overlap_gradient<T>(of.labels, p, target);
      qwy = of.label_qw * target;
    } else if (kLabels) {
      g = constant_g;
    }
    if (kDense) {
      g += overlap_gradient<T>(of.dense, p, dense_target);
      qwy += of.dense_qw * dense_target;
    }
    if (kSomeIgnored) g = if_counted<T>(dense_target, g);
    V dz = kActivation == Activation::softmax ? softmax_gradient<V>(p, g, load(dot, i)) - qwy
           : kActivation == Activation::sigmoid ? sigmoid_gradient<V>(p, load(p_not, i), g)
                                                : g * factor;
    if (kLabels && of.class_present)
      dz = select_label<T>(label_row + i, of.c, load(label_dz, i), dz);
    if (minus_ce_gradient) dz -= load(minus_ce_gradient, i);
    // A softmax hands to an ignored element what the others have to do with it.
    if (kSomeIgnored && kActivation != Activation::softmax) dz = if_counted<T>(dense_target, dz);
    if (kStream)
      stream(out, i, dz);
    else
      store(out, i, dz);
  }
}

// ---- tiles ---------------------------------------------------------------------------------

// The gradients of the loss by a target's statistics, as they act on the classes of an image.
template <typename T>
struct TargetGradient {
  // C + 1: of each class; the last, 0, is for pixels whose label has no row.
  std::unique_ptr<GradientCoefficients<T>[]> coefficients;
  std::unique_ptr<T[]> qw;    // C + 1: q w_c
  T q = 0;                    // by the sum of cross-entropies
  bool depends_on_p = false;  // whether g depends on p beyond the sign of p - y

  explicit TargetGradient(int64_t classes)
      : coefficients(new GradientCoefficients<T>[classes + 1]()), qw(new T[classes + 1]()) {}

  void enter(const Arguments& args, int target, int64_t image, const T* class_weights) {
    const int64_t n = args.images, classes = args.classes;
    const Columns& columns = args.columns(target);
    const double* grad_sums = args.grad_sums + target * kSums * n * classes;
    depends_on_p = false;
    for (int64_t c = 0; c < classes; ++c) {
      const auto grad = [&](int sum) {
        return columns.requested(sum) ? grad_sums[(sum * n + image) * classes + c] : 0.0;
      };
      coefficients[c] =
          gradient_coefficients<T>(grad(kTruePositive), grad(kFalsePositive), grad(kFalseNegative),
                                   grad(kIntersection), grad(kPredictionSquared));
      depends_on_p |= coefficients[c].of_probability != 0;
    }
    q = columns.requested(kCrossEntropy) ? T(args.grad_totals[target * kTotals * n + image]) : T(0);
    for (int64_t c = 0; c < classes; ++c) qw[c] = q * class_weights[c];
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
        sink(args),
        labels(classes),
        dense(classes),
        g_elsewhere(new T[classes]()),
        g_at_label(new T[classes + 1]()),
        every_block(new uint8_t[args.tile_pixels / kBlock]) {
    fill(every_block.get(), args.tile_pixels / kBlock, uint8_t(1));
  }

  void enter(int64_t chunk) {
    sink.enter(chunk);
    const int64_t image = chunk / args.chunks_per_image;
    if (image != entered_image) enter_image(entered_image = image);
  }

  void leave() { sink.leave(); }

  void write(const Pixels& pixels, const Pixels& next) {
    loader.load(pixels, next, requested);
    // Without an activation p may be 0 itself, with the sub-gradient of a tie.
    const bool varies = labels.depends_on_p || args.activation == Activation::none;
    g_varies = varies ? every_block.get() : tile.label.has_smoothed;
    if (is_softmax()) find_dots();
    if (with_labels) find_label_gradient();
    if (is_softmax()) subtract_target_masses();
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
  GradientSink<T> sink;
  TargetGradient<T> labels, dense;
  std::unique_ptr<T[]> g_elsewhere, g_at_label;  // C, C + 1: g of a hard label
  std::unique_ptr<uint8_t[]> every_block;        // B: all 1
  const uint8_t* g_varies = nullptr;  // B: whether g of labels is no constant of each class
  Requested<T> requested;
  int64_t entered_image = -1;

  void enter_image(int64_t image) {
    if (with_labels) labels.enter(args, 0, image, tile.entropy.label_class_weights);
    if (with_dense) dense.enter(args, args.targets() - 1, image, tile.entropy.dense_class_weights);
    for (int64_t c = 0; c < classes; ++c) {
      const GradientCoefficients<T>& of = labels.coefficients[c];
      g_elsewhere[c] = 2 * of.half_above;                // p > y = 0
      g_at_label[c] = 2 * of.half_below + of.of_target;  // p < y = 1
    }
    requested = Requested<T>();
    requested.label_q = labels.q;
    requested.dense_q = dense.q;
    requested.keeps_logits = args.activation == Activation::sigmoid;
    if (is_softmax() && with_labels && !labels.depends_on_p)
      requested.dot_coefficients = g_elsewhere.get();
  }

  bool is_softmax() const { return args.activation == Activation::softmax; }
  // Whether a target's cross-entropy is of the logits' own softmax, and has no rows of its own.
  bool label_ce_in_softmax() const { return is_softmax() && labels.q != 0; }
  bool dense_ce_in_softmax() const { return !args.separate_dense_entropy() && dense.q != 0; }

  // dot, without the label's own term.
  void find_dots() {
    const T* scale = tile.softmax.scale;
    T* dot = tile.softmax.dot;
    if (!requested.dot_coefficients) fill(dot, tile.padded, T(0));
    Prefetch none;
    LargestBits<float> nothing;
    for (int first = 0; with_labels && first < tile.padded; first += kBlock) {
      if (!g_varies[first / kBlock]) continue;
      fill(dot + first, kBlock, T(0));
      add_dot<kBlock, false>(tile.x, scale, tile.label.target_elsewhere, 0, classes, tile.stride,
                             labels.coefficients.get(), first, dot, none, nothing);
    }
    if (with_dense && tile.has_ignored)
      add_dense_dots<true>();
    else if (with_dense)
      add_dense_dots<false>();
  }

  template <bool kSomeIgnored>
  void add_dense_dots() {
    for (int first = 0; first < tile.padded; first += kRowStep<T>)
      add_dot<kRowStep<T>, kSomeIgnored>(tile.x, tile.softmax.scale, tile.y, tile.stride, classes,
                                         tile.stride, dense.coefficients.get(), first,
                                         tile.softmax.dot, tile.dense.prefetch,
                                         tile.dense.largest);
  }

  // Takes q M of the cross-entropies of the logits' own softmax off dot.
  void subtract_target_masses() {
    const LabelState<T>& label = tile.label;
    const EntropyState<T>& entropy = tile.entropy;
    T* dot = tile.softmax.dot;
    const int n = tile.padded;
    if (label_ce_in_softmax() && label.any_smoothed)
      subtract_target_mass(entropy.label_weight, label.target_at_label, label.target_elsewhere,
                           entropy.label_weight_sum, labels.q, dot, n);
    else if (label_ce_in_softmax())
      subtract_target_mass(entropy.label_weight, labels.q, dot, n);
    if (dense_ce_in_softmax()) subtract_target_mass(entropy.target_mass, dense.q, dot, n);
  }

  // The gradient of the labels' logits. Their cross-entropy is not by way of dot: p - 1 is
  // -p_not_label, with the digits of a confident prediction.
  void find_label_gradient() {
    const LabelState<T>& label = tile.label;
    const EntropyState<T>& entropy = tile.entropy;
    const int n = tile.padded;
    find_label_g();
    find_label_dz(args.activation, label.p_label, label.p_not_label, label.g, tile.softmax.dot,
                  label.dz, n);
    if (!label_ce_in_softmax() && !dense_ce_in_softmax()) return;
    fill(label.minus_ce_gradient, n, T(0));
    if (label_ce_in_softmax())
      add_at_label(label.p_label, label.p_not_label, entropy.label_weight, label.target_at_label,
                   label.target_elsewhere, entropy.label_weight_sum, labels.q,
                   label.minus_ce_gradient, n);
    if (dense_ce_in_softmax())
      add_at_label(label.p_label, label.dense_at_label, entropy.target_mass, dense.q,
                   label.minus_ce_gradient, n);
    subtract_row(label.minus_ce_gradient, n, label.dz);
  }

  void find_label_g() {
    const bool hard = !any(g_varies, tile.padded / kBlock);
    if (hard && with_dense)
      find_label_g<false, true>();
    else if (hard)
      find_label_g<false, false>();
    else if (with_dense)
      find_label_g<true, true>();
    else
      find_label_g<true, false>();
  }

  // g at the labels, by blocks of one label or pixel by pixel.
  template <bool kSmooth, bool kDense>
  void find_label_g() {
    const LabelState<T>& label = tile.label;
    const auto find = [&](auto pixels, int32_t c, int first) __attribute__((always_inline)) {
      find_g_of_block<kSmooth, kDense, pixels()>(
          g_at_label[c], labels.coefficients[c], dense.coefficients[c], label.p_label + first,
          label.target_at_label + first, label.dense_at_label + first, label.g + first);
    };
    for_labels(
        label.row, label.one_label, tile.padded,
        [&](int32_t c, int first) __attribute__((always_inline)) {
          find(std::integral_constant<int, kBlock>(), c, first);
        },
        [&](int32_t c, int i) __attribute__((always_inline)) {
          find(std::integral_constant<int, 1>(), c, i);
        });
  }

  template <Activation kActivation>
  void write_rows(const Pixels& pixels) {
    sink.begin(pixels, tile.padded, tile.x, tile.stride);
    if (with_labels && with_dense)
      write_rows<kActivation, true, true, false>();
    else if (with_labels)
      write_rows<kActivation, true, false, false>();
    else if (tile.has_ignored)
      write_rows<kActivation, false, true, true>();
    else
      write_rows<kActivation, false, true, false>();
    sink.end();
  }

  template <Activation kActivation, bool kLabels, bool kDense, bool kSomeIgnored>
  void write_rows() {
    if (sink.streams())
      write_rows<kActivation, kLabels, kDense, kSomeIgnored, true>();
    else
      write_rows<kActivation, kLabels, kDense, kSomeIgnored, false>();
  }

  template <Activation kActivation, bool kLabels, bool kDense, bool kSomeIgnored, bool kStream>
  void write_rows() {
    const bool label_ce_separate = labels.q != 0 && !is_softmax();
    const bool dense_ce_separate = dense.q != 0 && args.separate_dense_entropy();
    for (int64_t c = 0; c < classes; ++c) {
      ClassGradient<T> of{labels.coefficients[c], dense.coefficients[c]};
      of.label_qw = label_ce_in_softmax() ? labels.qw[c] : T(0);
      of.dense_qw = dense_ce_in_softmax() ? dense.qw[c] : T(0);
      if (label_ce_separate || dense_ce_separate)
        of.minus_ce_gradient = tile.minus_ce_gradient_row(c);
      of.g_varies = g_varies;
      of.c = int32_t(c);
      of.class_present = kLabels && tile.label.class_present[c];
      // Only here do the rows of a sigmoid become probabilities, and their complements, of one class.
      if (kActivation == Activation::sigmoid)
        sigmoid_row(tile.x_row(c), tile.p_not, tile.padded);
      gradient_row<kActivation, kLabels, kDense, kSomeIgnored, kStream>(tile, of, sink.row(c));
    }
  }
};

}  // namespace jml::JML_ISA
