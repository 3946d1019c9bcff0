// The backward kernel of cells.cuh: the gradient of logits of lower resolution, without atomics.
//
// A block owns a patch of low pixels (patch.cuh), and goes down all pixels that are made of one of
// them, each thread with a column.
//
//     row of a run -> sums over classes -> dz of each class -> added to the gradient of the low row
//                                                              above, and of the one below
//
// These are two numbers of each class and thread. When the pixels between two low rows are done, the
// one above has got all it gets. It goes through shared memory from columns of pixels to low columns,
//
//     gradient of a low column = sum of (1 - share) over its own cell, the pixels whose lower
//                                neighbour it is, and of share over the cell before
//
// is written, and the one below takes its place.
#pragma once

#include "cells.cuh"
#include "coefficients.cuh"
#include "patch.cuh"

namespace jml::cuda {

template <class C>
struct CellsBackward : Cells<C> {
  using Base = Cells<C>;
  using F = typename Base::F;
  using Base::args, Base::exponential, Base::label_in_warp, Base::range, Base::team;
  static constexpr int K = C::K;
  // Of the classes of a pixel; odd, so that lanes with neighbouring pixels meet in no bank.
  JML_MATH static int pitch_of(int64_t classes) { return int(classes) | 1; }

  // What the gradient needs of a class: g for p below the target, as at a label, and above it; and q w.
  struct alignas(16) OfClass {
    F below, above, qw;
  };

  Patch& patch;
  Box& box;
  OfClass* of_classes;  // [warps of classes x K], one after the other
  F* elsewhere;         // [warps of classes][K]: g above the target, as of a class that is not the label
  F* shares;            // [columns of pixels]
  F* pixels;            // [columns of pixels][pitch]: a row that is gathered
  F qw_sum = 0;         // over all classes, for smoothed labels
  // Of the low rows above and below: the gradient of each class; what the label's class gets besides;
  // and the targets of smoothed labels elsewhere, whose cross-entropy takes q w of them off each class.
  F gradient_above[K] = {}, gradient_below[K] = {};
  F label_above = 0, label_below = 0;
  F targets_above = 0, targets_below = 0;

  static int64_t shared_bytes(const Arguments& args, int warps) {
    const int class_warps = warps / args.strips;
    const int64_t numbers = class_warps * K + args.strips * kLanes * (1 + pitch_of(args.classes));
    return Base::shared_bytes(args, warps) + int64_t(sizeof(Patch) + sizeof(Box)) +
           class_warps * K * int64_t(sizeof(OfClass)) + numbers * int64_t(sizeof(F));
  }

  JML_DEVICE explicit CellsBackward(const Arguments& args)
      : Base(args),
        patch(*reinterpret_cast<Patch*>(Base::free_memory())),
        box(*reinterpret_cast<Box*>(&patch + 1)),
        of_classes(reinterpret_cast<OfClass*>(&box + 1)),
        elsewhere(reinterpret_cast<F*>(of_classes + Base::class_warps * K)),
        shares(elsewhere + Base::class_warps * K),
        pixels(shares + args.strips * kLanes) {
    if (team.rank() == 0) patch.find(args, int(blockIdx.x) % args.parts, box);
    write_coefficients();
    team.sync();
    if constexpr (!C::kHard)
      for (int c = 0; c < args.classes; ++c) qw_sum += of_classes[c].qw;
    const int first = int(box.begin[2]);
    Base::take_column(first + Base::strip * kLanes + team.lane, first + int(box.size[2]));
    // Two neighbours that are the same low pixel are one.
    const F share = Base::upper > Base::lower ? Base::share : F(0);
    if (Base::class_warp == 0) shares[Base::strip * kLanes + team.lane] = share;
  }

  JML_DEVICE void run() {
    const DeviceAxis& axis = args.logits_axes.of[0];
    const int first_low = int(patch.first[0]), end = first_low + int(patch.size[0]);
    // The pixels below the row before the patch are made of its first row too.
    int low_row = first_low > 0 ? first_low - axis.is_interpolated() : 0;
    int first = int(first_pixel_at(axis, low_row));
#pragma unroll 1
    for (; low_row < end; ++low_row) {
      first = Base::go_through(
          low_row, first, [&](const Run& run, int row, int code) { add_row(run, row, code); },
          [&] { leave_label(); });
      leave_label();
      if (low_row >= first_low) write_row(low_row);
#pragma unroll
      for (int k = 0; k < K; ++k) {
        gradient_above[k] = gradient_below[k];
        gradient_below[k] = 0;
      }
      targets_above = targets_below;
      targets_below = 0;
    }
  }

 private:
  JML_DEVICE void write_coefficients() {
    // A warp's classes end before K, and the next one's follow.
    for (int i = team.rank(); i < Base::class_warps * K; i += team.threads()) {
      of_classes[i] = {};
      if (i < args.classes) {
        const ClassGradient of_class = class_gradient(args, range.image, 0, i, 1.0);
        of_classes[i] = {F(of_class.below()), F(of_class.above()), F(of_class.qw)};
      }
    }
    team.sync();
    for (int i = team.rank(); i < Base::class_warps * K; i += team.threads()) {
      const bool is_class = i % K < args.classes_per_warp;
      elsewhere[i] = is_class ? of_classes[i / K * args.classes_per_warp + i % K].above : F(0);
    }
  }

  // dz = p (g + sum of q w y - dot) - q w y off the label, with dot = sum of p g over classes, and
  // p (g - dot) + ... at it (backward.cuh).
  JML_DEVICE void add_row(const Run& run, int row, int code) {
    F others[2] = {};  // an addition waits for the one before
#pragma unroll
    for (int k = 0; k < K; ++k) others[k % 2] += exponential[k];
    F numbers[3] = {others[0] + others[1], Base::label_exponential};
    F g[K];
    typename Base::Softmax softmax;
    if (!C::kHard && __any_sync(kAllLanes, Base::smoothed(code))) {
      softmax = softmax_of_smoothed(code, numbers, g);
    } else {
      unpack(load_pack<F, K>(elsewhere + Base::class_warp * K), g);
      numbers[2] = sum_of_gradients(g);
      Base::template over_classes<Add>(numbers);
      softmax = typename Base::Softmax(code, numbers[0], numbers[1]);
    }
    add_gradient(run, row, code, softmax, g, numbers[2]);
  }

  // The sum of e g over the warp's classes but the label.
  JML_DEVICE F sum_of_gradients(const F (&g)[K]) const {
    F sums[2] = {};
#pragma unroll
    for (int k = 0; k < K; ++k) sums[k % 2] += exponential[k] * g[k];
    return sums[0] + sums[1];
  }

  // Where labels are smoothed g needs p, and so the sum of exponentials first.
  JML_DEVICE typename Base::Softmax softmax_of_smoothed(int code, F (&numbers)[3], F (&g)[K]) {
    F sums[2] = {numbers[0], numbers[1]};
    Base::template over_classes<Add>(sums);
    const typename Base::Softmax softmax(code, sums[0], sums[1]);
    const F target = target_elsewhere(code);
#pragma unroll
    for (int k = 0; k < K; ++k) {
      const OfClass& of_class = of_classes[range.first_class + k];
      g[k] = side(of_class.above, of_class.below, exponential[k] * softmax.inverse_sum - target);
    }
    F gradients[1] = {sum_of_gradients(g)};
    Base::template over_classes<Add>(gradients);
    numbers[2] = gradients[0];
    return softmax;
  }

  JML_DEVICE F target_elsewhere(int code) const {
    return Base::smoothed(code) ? F(args.target_elsewhere) : F(0);
  }

  // With g of each class but the label, and their sum of e g.
  JML_DEVICE void add_gradient(const Run& run, int row, int code,
                               const typename Base::Softmax& softmax, const F (&g)[K],
                               F sum_of_others) {
    const int c = Base::label_of(code);
    const OfClass at_label = Base::valid(code) && c >= 0 ? of_classes[c] : OfClass{};
    const F target = target_elsewhere(code);
    const F deficit = Base::smoothed(code) ? F(args.label_deficit) : F(0);
    const F g_at_label = C::kHard ? at_label.below
                                  : side(at_label.above, at_label.below,
                                         deficit - softmax.p_not_label);
    // The sum of q w y over classes: at the label, and elsewhere.
    const F q_mass = (1 - deficit) * at_label.qw, q_mass_elsewhere = target * (qw_sum - at_label.qw);
    // g - dot at the label, where g - p g = g p_not has the digits of a confident prediction.
    const F dot_of_others = sum_of_others * softmax.inverse_sum;
    const F dot = dot_of_others + softmax.p_label * g_at_label;
    const F dz_at_label = softmax.p_label * (g_at_label * softmax.p_not_label - dot_of_others +
                                             q_mass_elsewhere) -
                          q_mass * softmax.p_not_label;
    const F q_mass_less_dot = q_mass + q_mass_elsewhere - dot, weight = run.share_of_upper(row);
    const F to_above = softmax.inverse_sum * (1 - weight), to_below = softmax.inverse_sum * weight;
#pragma unroll
    for (int k = 0; k < K; ++k) {
      const F scaled = exponential[k] * (g[k] + q_mass_less_dot);
      gradient_above[k] += to_above * scaled;
      gradient_below[k] += to_below * scaled;
    }
    targets_above += (1 - weight) * target;
    targets_below += weight * target;
    if (label_in_warp < 0) return;
    const F alone = dz_at_label + target * at_label.qw;  // which is taken off its class with others'
    label_above += (1 - weight) * alone;
    label_below += weight * alone;
  }

  JML_DEVICE void leave_label() {
    const unsigned bit = label_in_warp < 0 ? 0u : 1u << label_in_warp;
#pragma unroll
    for (int k = 0; k < K; ++k)
      if (bit >> k & 1) {
        gradient_above[k] += label_above;
        gradient_below[k] += label_below;
      }
    label_above = label_below = 0;
  }

  // Gathers the gradient of a low row, and writes it. Neighbouring threads have neighbouring classes, and
  // as many pixels to add up.
  JML_DEVICE void write_row(int low_row) {
    const int pitch = pitch_of(args.classes);
    team.sync();  // whoever still gathers the row before
    F* const own = pixels + (Base::strip * kLanes + team.lane) * pitch + range.first_class;
#pragma unroll
    for (int k = 0; k < K; ++k)
      if (k < range.classes)
        own[k] = gradient_above[k] -
                 (C::kHard ? F(0) : targets_above * of_classes[range.first_class + k].qw);
    team.sync();
    const int classes = int(args.classes), columns = int(patch.size[2]);
    int groups = team.threads() / classes;  // of columns
    groups = groups < 1 ? 1 : groups;
    const int group_columns = (columns + groups - 1) / groups;
    for (int i = team.rank(); i < groups * classes; i += team.threads()) {
      const int group = i / classes, first = group * group_columns;
      write_columns(low_row, i - group * classes, first, min(first + group_columns, columns));
    }
  }

  // Low columns of one class. patch.start has the first pixel of the cell before the patch, and of each
  // cell of it; columns that are not interpolated have no cell before.
  JML_DEVICE void write_columns(int low_row, int c, int first, int end) const {
    const TensorView& view = args.grad;
    const int pitch = pitch_of(args.classes);
    const F* const of_class = pixels + c;
    with_type<F, true>(view.dtype, [&](auto type) {
      using S = decltype(type);
      S* to = static_cast<S*>(view.data) + range.image * view.image_stride + c * view.class_stride +
              low_row * view.spatial_stride[0] + (patch.first[2] + first) * view.spatial_stride[2];
      int i = max(patch.start[first], 0);
      F of_upper = 0;
#pragma unroll 1
      for (int column = first - 1; column < end; ++column) {
        const int stop = patch.start[column + 2];
        F all = of_upper, upper = 0;
#pragma unroll 4
        for (; i < stop; ++i) {
          const F number = of_class[i * pitch], part = shares[i] * number;
          upper += part;
          all += number - part;
        }
        of_upper = upper;
        if (column < first) continue;
        *to = convert_back<S>(all);
        to += view.spatial_stride[2];
      }
    });
  }
};

template <class C>
__global__ void __launch_bounds__(C::kMaxThreads, C::kMinBlocks)
    cells_backward_kernel(const __grid_constant__ Arguments args) {
  CellsBackward<C>(args).run();
}

}  // namespace jml::cuda
