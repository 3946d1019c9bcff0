// From tensors to a tile: everything about its pixels that statistics and gradient are made of.
//
//     mask, labels -> valid, rows of the labels, their target            LabelState
//     logits, dense -> x, y                                              TileSource
//     x, y -> which elements are ignored, and what is no probability     TileValues
//     a teacher's y -> its probabilities
//     the label's class is taken out of x and y -> z_label, dense_at_label: what stays in the rows
//         has the target target_elsewhere, one row for all classes
//     x -> e^(z - z_max), its sum                                        SoftmaxState
//
// Cross-entropies are made on the way (cross_entropy.h).
#pragma once

#include "cross_entropy.h"
#include "labels.h"
#include "values.h"

namespace jml::JML_ISA {

template <typename T>
class TileLoader {
 public:
  explicit TileLoader(Tile<T>& tile)
      : tile(tile), args(tile.args), classes(tile.classes), cross_entropies(tile), values(tile) {}

  // The pixels that are to come next are copied meanwhile.
  void load(const Pixels& pixels, const Pixels& next, const Requested<T>& requested) {
    tile.count = pixels.count;
    tile.padded = (pixels.count + kRowStep<T> - 1) / kRowStep<T> * kRowStep<T>;
    load_valid(pixels);
    tile.logits.load(pixels, tile.padded);
    tile.x = tile.logits.tile;
    if (!tile.all_valid) clear_invalid(tile.x);
    if (args.has_dense()) load_dense(pixels, next, requested);
    values.look_at_logits(pixels, requested.faults);
    cross_entropies.before_activation(requested);
    if (args.has_labels()) {
      extract_labels(tile.x, z_of_zero(), tile.label.z_label);
      if (args.has_dense()) extract_labels(tile.y, T(0), tile.label.dense_at_label);
    }
    activate(next, requested);
    cross_entropies.after_activation(requested);
  }

 private:
  Tile<T>& tile;
  const Arguments& args;
  const int64_t classes;
  CrossEntropies<T> cross_entropies;
  TileValues<T> values;

  bool is(Activation activation) const { return args.activation == activation; }

  // The logit of probability 0.
  T z_of_zero() const {
    return is(Activation::none) ? T(0) : -std::numeric_limits<T>::infinity();
  }

  // ---- which pixels count, and their labels ------------------------------------------------

  void load_valid(const Pixels& pixels) {
    T* valid = tile.valid;
    if (!args.has_labels() || args.mask.given || args.binary()) fill(valid, tile.count, T(1));
    fill(valid + tile.count, tile.padded - tile.count, T(0));
    if (args.mask.given) load_mask(args, pixels, valid);
    if (args.has_labels()) return load_labels(pixels);
    tile.all_valid = count_valid(valid, tile.padded) == tile.padded;
  }

  void load_labels(const Pixels& pixels) {
    const int count = tile.count, padded = tile.padded;
    int32_t *code = tile.label.code, *row = tile.label.row;
    load_codes(args, pixels, code);
    fill(code + count, padded - count, kIgnored);
    const int32_t no_row = int32_t(classes);
    const int valid_count =
        args.mask.given || args.binary()
            ? place_labels(code, int32_t(args.binary()), no_row, tile.valid, row, padded)
            : place_labels(code, no_row, tile.valid, row, padded);
    tile.all_valid = valid_count == padded;
    find_regions(row, tile.label.one_label, padded);
    // A masked pixel may hold any label. Of the others the first that is no class is a fault.
    for (int i = 0; !tile.all_valid && i < count; ++i)
      if (code[i] == kOutOfRange && mask_counts(pixels.image, pixels.first + i))
        tile.faults.label = std::min(tile.faults.label, pixels.first + i);
    load_target(pixels);
  }

  bool mask_counts(int64_t image, int64_t pixel) const {
    if (!args.mask.given) return true;
    const Segments where(args.mask, args.spatial, {image, pixel, 1});
    return static_cast<const uint8_t*>(
        args.mask.data)[image * args.mask.image_stride + where.segment[0].offset];
  }

  void load_target(const Pixels& pixels) {
    LabelState<T>& label = tile.label;
    const int padded = tile.padded;
    const T epsilon = T(args.label_smoothing), labels = T(args.label_count());
    const bool smooths = epsilon != 0, boundary_only = smooths && args.boundary_size > 0;
    int32_t* on_boundary = label.on_boundary;
    if (boundary_only) {
      find_boundary(args, pixels, label.code, label.lowest, label.highest, on_boundary);
      fill(on_boundary + tile.count, padded - tile.count, int32_t(0));
    }
    for (int block = 0; block < padded / kBlock; ++block)
      label.has_smoothed[block] =
          boundary_only ? any(on_boundary + block * kBlock, kBlock) : smooths;
    label.any_smoothed = any(label.has_smoothed, padded / kBlock);
    label.target_at_label = label.any_smoothed ? label.smoothed_at_label : tile.valid;
    label.target_elsewhere = label.any_smoothed ? label.smoothed_elsewhere : label.zero;
    if (label.any_smoothed)
      label_target_rows(boundary_only ? on_boundary : nullptr, epsilon, labels, tile.valid,
                        label.smoothed_at_label, label.smoothed_elsewhere, padded);
  }

  // A pixel that does not count gets logits 0, so that NaN in it goes nowhere.
  void clear_invalid(T* rows) {
    for (int64_t c = 0; c < classes; ++c)
      keep_valid(rows + c * tile.stride, tile.valid, tile.padded);
  }

  // Takes the label's number of each pixel out of the rows, where `left` stays in its place.
  void extract_labels(T* rows, T left, T* extracted) {
    const int64_t stride = tile.stride;
    uint8_t* class_present = tile.label.class_present;
    fill(rows + classes * stride, tile.padded, left);
    fill(class_present, classes + 1, uint8_t(0));
    for_labels(
        tile.label.row, tile.label.one_label, tile.padded,
        [&](int32_t c, int first) __attribute__((always_inline)) {
          T* place = rows + c * stride + first;
          copy(place, kBlock, extracted + first);
          fill(place, kBlock, left);
          class_present[c] = 1;
        },
        [&](int32_t c, int i) __attribute__((always_inline)) {
          T& place = rows[c * stride + i];
          extracted[i] = place;
          place = left;
          class_present[c] = 1;
        });
  }

  // ---- the dense target --------------------------------------------------------------------

  void load_dense(const Pixels& pixels, const Pixels& next, const Requested<T>& requested) {
    tile.dense.load(pixels, tile.padded);
    tile.y = tile.dense.tile;
    if (!tile.all_valid) clear_invalid(tile.y);
    values.look_at_dense(pixels, requested.faults);
    if (tile.has_ignored) clear_ignored();
    if (args.integer_dense() && args.label_smoothing != 0) smooth_integers();
    tile.dense.begin_prefetch(next, values.looks_at_dense(requested.faults));
    if (args.teacher) teach(requested.teacher_entropy);
  }

  // Ignored elements of independent classes predict nothing. A pixel that has no others counts
  // nowhere, whatever its logits are.
  void clear_ignored() {
    for (int64_t c = 0; !is(Activation::softmax) && c < classes; ++c)
      replace_ignored(tile.y_row(c), z_of_zero(), tile.x_row(c), tile.padded);
    clear_invalid(tile.x);
  }

  // Independent labels 0 and 1 are smoothed as two classes.
  void smooth_integers() {
    const LabelTarget<T> target = label_target(T(args.label_smoothing), T(2));
    for (int64_t c = 0; c < classes; ++c)
      smooth_row(target, tile.valid, tile.y_row(c), tile.padded);
  }

  // A teacher's logits become its probabilities.
  void teach(bool entropy_requested) {
    const int n = tile.padded;
    const T temperature = T(args.teacher_temperature);
    for (int64_t c = 0; temperature != 1 && c < classes; ++c)
      divide_row(tile.y_row(c), temperature, n, tile.y_row(c));
    if (is(Activation::softmax))
      teach_softmax(entropy_requested);
    else
      teach_by_element(entropy_requested);
  }

  void teach_softmax(bool entropy_requested) {
    const int n = tile.padded;
    const SoftmaxState<T>& softmax = tile.other_softmax;
    SoftmaxRows<T> rows{.valid = tile.valid, .scale = softmax.scale};
    if (!entropy_requested)
      return softmax_tile<false, false, EntropyTarget::none, true>(
          tile.y, classes, tile.stride, n, rows, tile.dense.prefetch);
    rows.exp_sum_minus_1 = softmax.exp_sum_minus_1;
    rows.weighted_gap = softmax.weighted_gap;
    rows.target_mass = softmax.target_mass;
    softmax_tile<false, false, EntropyTarget::itself, true>(tile.y, classes, tile.stride, n, rows,
                                                            tile.dense.prefetch);
    dense_entropy<T>(softmax.weighted_gap, softmax.target_mass, softmax.exp_sum_minus_1, nullptr,
                     nullptr, tile.entropy.of_teacher, n);
  }

  // Without an activation they are probabilities as they are.
  void teach_by_element(bool entropy_requested) {
    T* entropy = entropy_requested ? tile.entropy.of_teacher : nullptr;
    if (entropy) fill(entropy, tile.padded, T(0));
    for (int64_t c = 0; is(Activation::sigmoid) && c < classes; ++c)
      teach_row(tile.y_row(c), tile.valid, entropy, tile.padded);
  }

  // ---- activation --------------------------------------------------------------------------

  void activate(const Pixels& next, const Requested<T>& requested) {
    tile.logits.begin_prefetch(next, values.looks_at_logits(requested.faults));
    if (is(Activation::softmax))
      activate_softmax(requested);
    else
      activate_by_element(requested);
    tile.logits.finish_prefetch();
  }

  void activate_by_element(const Requested<T>& requested) {
    const int n = tile.padded;
    const LabelState<T>& label = tile.label;
    const bool is_sigmoid = is(Activation::sigmoid);
    for (int64_t c = 0; is_sigmoid && !requested.keeps_logits && c < classes; ++c)
      sigmoid_row(tile.x_row(c), n);
    if (args.has_labels()) copy(label.z_label, n, label.p_label);
    if (args.has_labels() && is_sigmoid) sigmoid_row(label.p_label, label.p_not_label, n);
    copy(tile.valid, n, tile.softmax.scale);
  }

  void activate_softmax(const Requested<T>& requested) {
    const SoftmaxState<T>& softmax = tile.softmax;
    const bool sums_dense = cross_entropies.in_softmax(requested);
    SoftmaxRows<T> rows{.valid = tile.valid,
                        .z_label = tile.label.z_label,
                        .dot_coefficients = requested.dot_coefficients,
                        .scale = softmax.scale,
                        .p_label = tile.label.p_label,
                        .p_not_label = tile.label.p_not_label,
                        .dot = softmax.dot};
    if (requested.label_entropy || sums_dense) {
      rows.label_gap = softmax.label_gap;
      rows.exp_sum_minus_1 = softmax.exp_sum_minus_1;
    }
    if (sums_dense) {
      rows.y = tile.y;
      rows.class_weights = tile.entropy.dense_class_weights;
      rows.weighted_gap = softmax.weighted_gap;
      rows.target_mass = softmax.target_mass;
    }
    const auto run = [&](auto labels, auto dot, auto target) {
      softmax_tile<labels(), dot(), target()>(tile.x, classes, tile.stride, tile.padded, rows,
                                              tile.logits.prefetch);
    };
    using Yes = std::true_type;
    using No = std::false_type;
    const auto run_against = [&](auto target) {
      if (requested.dot_coefficients) return run(Yes(), Yes(), target);
      if (args.has_labels()) return run(Yes(), No(), target);
      run(No(), No(), target);
    };
    if (sums_dense && args.unit_target_mass())
      run_against(std::integral_constant<EntropyTarget, EntropyTarget::unit_mass>());
    else if (sums_dense)
      run_against(std::integral_constant<EntropyTarget, EntropyTarget::weighted>());
    else
      run_against(std::integral_constant<EntropyTarget, EntropyTarget::none>());
  }
};

}  // namespace jml::JML_ISA
