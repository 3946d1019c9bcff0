// The forward kernel: statistics of tiles, as partial sums of a block.
//
// A block walks over tiles of one image and keeps its sums to itself, so that they are always added
// in the same order; finish.cuh adds up the blocks.
//
//     tile of logits -> state of each pixel (softmax) -> p, y -> terms -> sums of the block
//
// What it costs with hard labels and 19 classes, in planes, on an H100 whose copies move 3.0 TB/s,
// counted from the source and from the machine code (sm_90: benchmarks/sass). An H200 executes 24
// instructions of a thread for each element, as counted; its schedulers have 2.8 warps each, and
// issue in half of their cycles, so that the forward takes twice as long as issuing alone
// (docs/performance.md).
//     bytes         E b for E logits of b bytes, and the labels once: for 4 x 19 x 512 x 512 of
//                   float32 that is 80 MB and 8 MB, of float16 40 MB and 8 MB
//     operations    about 12 an element, of which one is an exponential
//     instructions  24 of a thread for each element, of which 11 compare, select or compute with
//                   integers, at half the rate; that is 1800 of a warp for its tile of 19 x 128.
//                   With 4 schedulers a multiprocessor at 1.7 GHz, issuing them takes
//                   0.6 times as long as moving the bytes of float32, and 1.1 times as long as
//                   moving those of float16: float32 waits for memory, half types for instructions
//     registers     150 to 168, which leaves room for 12 warps on a multiprocessor. Each has up to
//                   19 x 16 bytes x 32 lanes under way, all of them 116 KB, where the latency of
//                   memory needs about 20 KB (`jml-kernels info --kernels` lists every kernel)
// Smoothed labels take 36 instructions: two rows of sums in place of one, and the smaller one of p
// and target. Finding boundaries takes another 7 where windows are 3 x 3 (labels.cuh).
#pragma once

#include "sums.cuh"

namespace jml::cuda {

template <class C>
struct Forward : PixelState<C> {
  using Base = PixelState<C>;
  using F = typename C::F;
  using Base::args, Base::dense_tile, Base::each, Base::each_class, Base::each_pixel,
      Base::is_label, Base::label_class, Base::label_deficit, Base::p_label, Base::p_not_label,
      Base::poison, Base::range, Base::smoothed, Base::target_at_label, Base::target_elsewhere,
      Base::team, Base::tile, Base::valid;
  static constexpr int K = C::K, V = C::V;

  Sums<C> sums;
  double* totals;  // [kBlockTotals][lanes], in shared memory: registers are short
  F label_weight_sum = 0;  // of w_c over all classes, for the cross-entropy of smoothed labels
  F dense_argmax[V];       // the first class with the largest dense target, where it is requested

  JML_DEVICE explicit Forward(const Arguments& args)
      : Base(args),
        sums(args, team, Base::free_memory() + totals_bytes(team.warps),
             args.partials + blockIdx.x * args.partials_per_block),
        totals(reinterpret_cast<double*>(Base::free_memory()) +
               team.warp * kBlockTotals * kLanes + team.lane) {
    if (has_totals())
      for (int i = 0; i < kBlockTotals; ++i) total(i) = 0;
    if constexpr (C::kHasBox) {
      if (team.rank() == 0) Base::box->take_image(args);
      team.sync();
    }
    if (C::kSoftmax && Base::label_cross_entropy_requested() &&
        args.target_elsewhere != 0)
      for (int64_t c = 0; c < args.classes; ++c) label_weight_sum += Base::label_weight(int(c));
  }

  // In fast kernels the first warp alone adds to the totals, which are one number for each pixel.
  static constexpr int64_t totals_bytes(int warps) {
    return (C::kGeneral ? warps : 1) * kBlockTotals * kLanes * int64_t(sizeof(double));
  }
  JML_DEVICE bool has_totals() const { return C::kGeneral || team.warp == 0; }
  static int64_t shared_bytes(const Arguments& args, int warps) {
    return Base::shared_bytes(warps, args.staged_bytes) + totals_bytes(warps) +
           Sums<C>::shared_bytes(warps, args.slots.count, args.classes);
  }

  JML_DEVICE void run() {
    for (int step = 0; Base::enter(step); ++step) {
      const auto argmax_pass = Base::pass(
          argmax_requested(), [&] { begin_argmax(); }, [&] { find_largest_target(); },
          [&] { end_largest_target(); });
      const auto first_pass = Base::pass(
          argmax_requested(), [&] { begin_first(); }, [&] { find_first(); }, [&] { end_argmax(); });
      const auto columns_pass = Base::pass(
          true, [&] { begin_columns(); }, [&] { add_columns_of_classes(); }, [&] { end_columns(); });
      if constexpr (C::kSoftmax)
        Base::go_through(
            Base::z_max_pass(), Base::template teacher_pass<true>(),
            Base::template exponentials_pass<true>([](int, F) { return F(0); }), argmax_pass,
            first_pass, columns_pass);
      else
        Base::go_through(argmax_pass, first_pass, columns_pass);
      if (step % Sums<C>::kTilesInBins == Sums<C>::kTilesInBins - 1) empty_bins();
    }
    empty_bins();
    write();
  }

 private:
  JML_DEVICE double& total(int which) const { return totals[which * kLanes]; }
  JML_DEVICE int label_slot(int column) const { return args.slots.of_labels[column]; }
  JML_DEVICE void empty_bins() {
    sums.empty_bins(args.slots, range, 1 - Base::smoothed_label_deficit);
  }

  // ---- one number for each pixel ----
  JML_DEVICE void add_totals_of_pixels() {
    if (!counts_by_elements()) {
      F counted = 0;
      each_pixel([&](int v) { counted += valid(v) ? 1 + poison(v) : F(0); });
      total(kPixelsCounted) += double(counted);
    }
    if (Base::has_labels() &&
        (Base::label_cross_entropy_requested() || args.ce_class_weights.data))
      add_label_totals();
    if constexpr (C::kDense && C::kSoftmax) {
      if (Base::dense_cross_entropy_requested())
        total(kDenseCrossEntropy) += double(Base::dense_cross_entropy);
      if (Base::teacher_entropy_requested())
        total(kTeacherEntropy) += double(Base::teacher_entropy);
    }
  }

  // The cross-entropy of a smoothed label: -log p is label_gap + log_exp_sum at the label, and
  // z_max - z_c + log_exp_sum at another class c.
  JML_DEVICE void add_label_totals() {
    F cross_entropy = 0, weights = 0;
    each_pixel([&](int v) {
      const int c = label_class(v);
      if (!valid(v) || c < 0) return;
      const F weight = Base::label_weight(c) + poison(v);
      weights += weight;
      if constexpr (C::kSoftmax) {
        const F log_exp_sum = Base::log_exp_sum[v];
        cross_entropy += target_at_label(v) * weight * (Base::label_gap[v] + log_exp_sum);
        if (target_elsewhere(v) != 0)
          cross_entropy += target_elsewhere(v) *
                           (Base::weighted_gap[v] + log_exp_sum * (label_weight_sum - weight));
      }
    });
    total(kLabelWeight) += double(weights);
    if (C::kSoftmax && Base::label_cross_entropy_requested())
      total(kLabelCrossEntropy) += double(cross_entropy);
  }

  // ---- a number for each class and pixel ----
  JML_DEVICE void add_columns_of_classes() {
    if constexpr (C::kGeneral) {
      add_chunk();
      return;
    }
    if (Base::has_labels()) {
      add_label_rows();
      each_pixel([&](int v) { add_label(v); });
    }
    if constexpr (C::kDense) {
      each([&](int k, int v) { tile[k][v] = is_label(k, v) ? p_label[v] : p_elsewhere(k, v); });
      if (Base::has_ignored())
        each([&](int k, int v) { tile[k][v] = Base::is_ignored(k, v) ? F(0) : tile[k][v]; });
      add_counted(args.slots.of_dense);
      add_overlap(
          args.slots.of_dense, [&](int k, int v) { return tile[k][v]; },
          [&](int k, int v) { return dense_tile[k][v]; },
          [&](int k, int v) { return dense_tile[k][v] - tile[k][v]; });
    }
  }

  // p of the classes that are not the label; there the tile holds 0.
  JML_DEVICE F p_elsewhere(int k, int v) const { return tile[k][v] * Base::inverse_exp_sum[v]; }

  // The classes that are not the label, whose target is target_elsewhere.
  JML_DEVICE void add_label_rows() {
    int smoothed_pixels = 0;  // of the warp
    if constexpr (!C::kHard)
      each_pixel([&](int v) { smoothed_pixels += __popc(__ballot_sync(kAllLanes, smoothed(v))); });
    if (smoothed_pixels == 0)  // then the target is 0, and all of p is a false positive
      add(label_slot(kFalsePositive), [&](int k, int v) { return p_elsewhere(k, v); });
    else
      add_smoothed_rows(smoothed_pixels);
  }

  JML_DEVICE void add_smoothed_rows(int smoothed_pixels) {
    F shared[K] = {}, beyond[K] = {}, target[V];
    each_pixel([&](int v) { target[v] = target_elsewhere(v); });
    each_class([&](int k) {
      each_pixel([&](int v) {
        const F p = p_elsewhere(k, v), smaller = Least::apply(p, target[v]);
        shared[k] += smaller;
        beyond[k] += p - smaller;
      });
    });
    sums.add_smoothed_rows(args.slots, range, shared, beyond, smoothed_pixels,
                           Base::smoothed_target_elsewhere);
  }

  // The label's own terms, which the warp that has its class adds.
  JML_DEVICE void add_label(int v) {
    if constexpr (Sums<C>::kHasBins) {
      const int k = Base::label_in_chunk[v];
      if (!valid(v) || k < 0 || k >= range.classes) return;
      if constexpr (C::kHard) {
        sums.bin(kBinTruePositive, k) += p_label[v];
        sums.bin(kBinFalseNegative, k) += p_not_label[v];
      } else {
        const F gap = p_not_label[v] - label_deficit(v);
        sums.bin(kBinTruePositive, k) += gap > 0 ? p_label[v] : target_at_label(v);
        sums.bin(kBinFalsePositive, k) += gap > 0 ? F(0) : -gap;
        sums.bin(kBinFalseNegative, k) += (gap > 0 ? gap : F(0)) - target_elsewhere(v);
        sums.raise_largest_target(k, smoothed(v) ? kSmoothedLabel : kHardLabel);
      }
    }
  }

  // ---- terms of p(k, v), y(k, v) and gap(k, v) = y - p, with the label in its place ----
  template <typename Term>
  JML_DEVICE void add(int slot, Term term) {
    sums.template add_row<Add>(slot, range, [&](int k) {
      F sum = term(k, 0);
#pragma unroll
      for (int v = 1; v < V; ++v) sum += term(k, v);
      return sum;
    });
  }
  template <typename Term>
  JML_DEVICE void raise(int slot, Term term) {
    sums.template add_row<Largest>(slot, range, [&](int k) {
      F largest = 0;
      each_pixel([&](int v) { largest = Largest::apply(largest, term(k, v)); });
      return largest;
    });
  }

  // Which classes have an element that counts. All have, where a pixel counts and no element is
  // ignored by itself.
  JML_DEVICE void add_counted(const int8_t (&slots)[kClassColumns]) {
    const int slot = slots[kCounted];
    if (slot < 0) return;
    unsigned classes = 0;  // a bit for each
    const bool some_ignored = C::kGeneral ? args.ignores_elements() : Base::has_ignored();
    if (__any_sync(kAllLanes, some_ignored)) {
      each_class([&](int k) {
        bool any_counts = false;
        each_pixel([&](int v) { any_counts |= valid(v) && !Base::is_ignored(k, v); });
        if (__any_sync(kAllLanes, any_counts)) classes |= 1u << k;
      });
    } else {
      bool any_counts = false;
      each_pixel([&](int v) { any_counts |= valid(v); });
      if (__any_sync(kAllLanes, any_counts)) classes = ~0u;
    }
    sums.mark(slot, range, classes);
  }

  // The columns that fast kernels know. Where the gap is NaN the false positive is NaN too.
  template <typename P, typename Y, typename Gap>
  JML_DEVICE void add_overlap(const int8_t (&slots)[kClassColumns], P p, Y y, Gap gap) {
    add(slots[kTruePositive], [&](int k, int v) { return gap(k, v) > 0 ? p(k, v) : y(k, v); });
    add(slots[kFalsePositive], [&](int k, int v) { return gap(k, v) > 0 ? F(0) : -gap(k, v); });
    add(slots[kFalseNegative], [&](int k, int v) { return gap(k, v) > 0 ? gap(k, v) : F(0); });
    add(slots[kIntersection], [&](int k, int v) { return p(k, v) * y(k, v); });
    raise(slots[kTargetMax], y);
  }

  // All columns but that of the classes that count.
  template <typename P, typename Y, typename Gap, typename Present>
  JML_DEVICE void add_columns(const int8_t (&slots)[kClassColumns], P p, Y y, Gap gap,
                              Present present) {
    add_overlap(slots, p, y, gap);
    add(slots[kPredictionSquared], [&](int k, int v) { return p(k, v) * p(k, v); });
    add(slots[kTargetSquared], [&](int k, int v) { return y(k, v) * y(k, v); });
    raise(slots[kPredictionMax], p);
    raise(slots[kJointMax], [&](int k, int v) { return p(k, v) + y(k, v); });
    raise(slots[kPresent], [&](int k, int v) {
      return valid(v) && !Base::is_ignored(k, v) && present(k, v) ? F(1) : F(0);
    });
  }

  // Whether a class is the argmax of the smoothed label. Smoothing by 1 makes all classes equal,
  // and then the first is the argmax.
  JML_DEVICE bool is_present_in_label(int k, int v) const {
    if (args.independent()) return Base::label_target(k, v) > F(0.5);
    const bool distinct = !smoothed(v) || args.label_smoothing < 1;
    return distinct ? is_label(k, v) : range.first_class + k == 0;
  }

  JML_DEVICE bool is_present_in_dense(int k, int v, F target) const {
    if (args.independent()) return target > F(0.5);
    return dense_argmax[v] == F(range.first_class + k);
  }

  // Of general kernels: the first class with the largest dense target, in two passes. Here NaN is
  // larger than all numbers.
  JML_DEVICE bool argmax_requested() const {
    return C::kGeneral && Base::has_dense() && args.slots.of_dense[kPresent] >= 0 &&
           !args.independent();
  }
  JML_DEVICE F rank(int k, int v) const {
    const F target = Base::dense_target(k, v);
    return target != target ? F(INFINITY) : target;
  }
  enum { kFound, kLargest };  // of `pass_sums`
  JML_DEVICE void begin_argmax() {
    each_pixel([&](int v) { Base::pass_sums[kFound][v] = F(-INFINITY); });
  }
  JML_DEVICE void find_largest_target() {
    each([&](int k, int v) {
      Base::pass_sums[kFound][v] = Largest::apply(Base::pass_sums[kFound][v], rank(k, v));
    });
  }
  JML_DEVICE void end_largest_target() {
    Base::exchange.template over_warps<Largest, 1>(team, Base::pass_sums);
    each_pixel([&](int v) { Base::pass_sums[kLargest][v] = Base::pass_sums[kFound][v]; });
  }
  JML_DEVICE void begin_first() {
    each_pixel([&](int v) { Base::pass_sums[kFound][v] = F(INFINITY); });
  }
  JML_DEVICE void find_first() {
    each([&](int k, int v) {
      const F c = F(range.first_class + k);
      if (rank(k, v) == Base::pass_sums[kLargest][v])
        Base::pass_sums[kFound][v] = Least::apply(Base::pass_sums[kFound][v], c);
    });
  }
  JML_DEVICE void end_argmax() {
    Base::exchange.template over_warps<Least, 1>(team, Base::pass_sums);
    each_pixel([&](int v) { dense_argmax[v] = Base::pass_sums[kFound][v]; });
  }

  // ---- general kernels: whatever the activation, chunk by chunk ----
  // Whether a pixel counts if one of its elements does. Of a softmax this is known before
  // (PixelState::apply_state).
  JML_DEVICE bool counts_by_elements() const {
    return C::kGeneral && !C::kSoftmax && args.ignores_elements();
  }

  // Whether NaN as a target says that the target was no probability, and no label 0 or 1.
  JML_DEVICE bool has_checked_targets() const {
    return args.integer_dense() || args.holds_probabilities();
  }

  JML_DEVICE void begin_columns() {
    if (team.warp == 0) add_totals_of_pixels();
    Base::clear_sums();
  }
  JML_DEVICE void end_columns() {
    if (!counts_by_elements()) return;
    Base::exchange.template over_warps<Largest, 1>(team, Base::pass_sums);
    if (team.warp == 0) each_pixel([&](int v) { total(kPixelsCounted) += any_counts(v); });
  }
  // Whether a pixel has an element that counts.
  JML_DEVICE F& any_counts(int v) { return Base::pass_sums[0][v]; }

  JML_DEVICE void add_chunk() {
    if constexpr (!C::kSoftmax) add_cross_entropies_of_elements();
    F p[K][V], p_not_at_label[V] = {};
    int elements = 0;
    bool any_wrong = false;
    each([&](int k, int v) {
      F p_not;
      const bool counts = valid(v) && !Base::is_ignored(k, v);
      p[k][v] = Base::probability(k, v, p_not);
      p[k][v] = counts ? p[k][v] : F(0);
      p_not_at_label[v] = is_label(k, v) ? p_not : p_not_at_label[v];
      if (!counts) return;
      any_counts(v) = 1;
      ++elements;
      if constexpr (C::kActivation == Activation::none) any_wrong |= p[k][v] != p[k][v];
      if (has_checked_targets()) any_wrong |= dense_tile[k][v] != dense_tile[k][v];
    });
    total(kElements) += elements;
    if (any_wrong) total(kPixelsCounted) = NAN;
#pragma unroll 1
    for (int target = Base::has_labels() ? 0 : 1; target < 1 + Base::has_dense(); ++target) {
      const bool of_labels = target == 0;
      const int8_t(&slots)[kClassColumns] = of_labels ? args.slots.of_labels
                                                      : args.slots.of_dense;
      F y[K][V], gap[K][V];
      each([&](int k, int v) {
        y[k][v] = of_labels ? Base::label_target(k, v) : Base::dense_target(k, v);
        gap[k][v] = of_labels && is_label(k, v) ? p_not_at_label[v] - label_deficit(v)
                                                : y[k][v] - p[k][v];
      });
      add_counted(slots);
      add_columns(
          slots, [&](int k, int v) { return p[k][v]; }, [&](int k, int v) { return y[k][v]; },
          [&](int k, int v) { return gap[k][v]; },
          [&](int k, int v) {
            return of_labels ? is_present_in_label(k, v) : is_present_in_dense(k, v, y[k][v]);
          });
    }
  }

  // The cross-entropies of activations that are no softmax, element by element.
  JML_DEVICE void add_cross_entropies_of_elements() {
    const F scale = F(args.student_scale);
    F of_labels = 0, of_dense = 0, of_teacher = 0;
    each([&](int k, int v) {
      if (!valid(v) || Base::is_ignored(k, v)) return;
      const int c = range.first_class + k;
      if (Base::label_cross_entropy_requested())
        of_labels += Base::label_weight(c) *
                         element_cross_entropy(tile[k][v], Base::label_target(k, v)) +
                     poison(v);
      const F target = Base::dense_target(k, v);
      if (Base::dense_cross_entropy_requested())
        of_dense += Base::dense_weight(c) * element_cross_entropy(tile[k][v] * scale, target);
      if (Base::teacher_entropy_requested())
        of_teacher += element_cross_entropy(dense_tile[k][v], target);
    });
    total(kLabelCrossEntropy) += double(of_labels);
    total(kDenseCrossEntropy) += double(of_dense);
    total(kTeacherEntropy) += double(of_teacher);
  }

  // -y log p, and -(1 - y) log(1 - p) too where classes are independent.
  JML_DEVICE F element_cross_entropy(F value, F target) const {
    if constexpr (C::kActivation == Activation::sigmoid) {
      const F log1p_exp = log1p_of(exp_fast(value > 0 ? -value : value));
      return weighted_negative_log(target, log1p_exp - (value < 0 ? value : F(0))) +
             weighted_negative_log(1 - target, log1p_exp + (value > 0 ? value : F(0)));
    } else {
      const F of_class = weighted_negative_log(target, -log(value));
      return args.independent() ? of_class + weighted_negative_log(1 - target, -log(1 - value))
                                : of_class;
    }
  }

  // ---- the end ----
  JML_DEVICE void write() {
    double* const partials = args.partials + blockIdx.x * args.partials_per_block;
    const int64_t count = args.slots.count * args.classes;
    if constexpr (!C::kGeneral) {
      team.sync();
      for (int64_t i = team.rank(); i < count; i += team.threads()) partials[i] = sums.sums[i];
    }
    if (!has_totals()) return;
    for (int i = 0; i < kBlockTotals; ++i) {
      const double sum = sum_over_lanes(total(i));
      if (team.lane == 0)
        partials[count + (C::kGeneral ? team.warp : 0) * kBlockTotals + i] = sum;
    }
  }
};

template <class C>
__global__ void __launch_bounds__(C::kMaxThreads, C::kMinBlocks)
    forward_kernel(const __grid_constant__ Arguments args) {
  Forward<C>(args).run();
}

}  // namespace jml::cuda
