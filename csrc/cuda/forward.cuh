// The forward kernel: statistics of tiles, as partial sums of a block.
//
// A block walks over tiles of one image and keeps its sums to itself, so that they always meet in
// the same order; finish.cuh adds blocks up.
//
//     tile of logits -> state of each pixel (softmax) -> x, y -> terms -> sums of the block
//
// What it should cost, hard labels, 19 classes, on an H100 whose copies move 3.0 TB/s (counted from
// the source and from the compiler's output, not measured):
//     bytes      E b for E logits of b bytes, and the labels: 4 x 19 x 512 x 512 of float32 are 80 MB
//                and 8 MB, 29 us; of float16 40 + 8 MB, 16 us
//     flops      about 12 an element, of them one exponential: 0.24 GFLOP, 5 us
//     issued     about 17 instructions an element, 2000 for a warp's tile of 128 pixels: with
//                4 schedulers at 1.7 GHz 12 us. Float32 waits for memory, half types about as long
//                for instructions
//     registers  150 to 168, so 12 warps of 64, with up to 19 x 16 bytes x 32 lanes under way for
//                each: 116 KB, where the way to memory needs about 20
//                (`jml-kernels info --kernels` has every kernel's)
#pragma once

#include "sums.cuh"

namespace jml::cuda {

template <class C>
struct Forward : Look<C> {
  using Base = Look<C>;
  using F = typename C::F;
  using Base::args, Base::at, Base::each, Base::each_class, Base::each_pixel, Base::is_label,
      Base::label, Base::label_class, Base::off, Base::own, Base::miss, Base::share,
      Base::smoothed, Base::team, Base::valid, Base::y, Base::z;
  static constexpr int K = C::K, V = C::V;

  Sums<C> sums;
  double* totals;  // [kBlockTotals][lanes], in shared memory: registers are short
  F all_weights = 0;  // of a smoothed cross-entropy, summed over classes
  F best[V];  // the first class with the largest target, where someone asks

  JML_DEVICE explicit Forward(const Arguments& args)
      : Base(args),
        sums(args, team, Base::rest_of_memory() + totals_bytes(team.warps),
             args.partials + blockIdx.x * args.row),
        totals(reinterpret_cast<double*>(Base::rest_of_memory()) +
               team.warp * kBlockTotals * kLanes + team.lane) {
    if (has_totals())
      for (int i = 0; i < kBlockTotals; ++i) total(i) = 0;
    if (C::kLabels && C::kSoftmax && Base::wants_label_entropy() && args.off != 0)
      for (int64_t c = 0; c < args.classes; ++c) all_weights += Base::label_weight(int(c));
  }

  // In fast kernels one number for each pixel is the first warp's to add.
  static constexpr int64_t totals_bytes(int warps) {
    return (C::kGeneral ? warps : 1) * kBlockTotals * kLanes * int64_t(sizeof(double));
  }
  JML_DEVICE bool has_totals() const { return C::kGeneral || team.warp == 0; }
  static int64_t shared_bytes(const Arguments& args, int warps) {
    return Base::shared_bytes(warps, args.staged_bytes) + totals_bytes(warps) +
           Sums<C>::shared_bytes(warps, args.slots.count, args.classes);
  }

  JML_DEVICE void run() {
    for (int turn = 0; Base::enter(turn); ++turn) {
      if constexpr (C::kSoftmax) {
        Base::find_tops();
        Base::template add_exponentials<true>([](int, F) { return F(0); });
      }
      if (team.warp == 0) add_totals_of_pixels();
      if (C::kGeneral && args.has_dense()) find_largest_target();
      add_columns_of_classes();
      if (turn % Sums<C>::kTilesInBins == Sums<C>::kTilesInBins - 1)
        sums.empty_bins(args.slots, at, 1 - Base::share_value);
    }
    sums.empty_bins(args.slots, at, 1 - Base::share_value);
    write();
  }

 private:
  JML_DEVICE double& total(int which) const { return totals[which * kLanes]; }
  JML_DEVICE int label_slot(int column) const { return args.slots.of_labels[column]; }

  // ---- one number for each pixel ----
  JML_DEVICE void add_totals_of_pixels() {
    int counted = 0;
    each_pixel([&](int v) { counted += valid(v); });
    if (!(C::kGeneral && args.integer_dense())) total(kPixelsCounted) += counted;
    if (C::kLabels && args.has_labels() &&
        (Base::wants_label_entropy() || args.ce_class_weights.data))
      add_label_totals();
    if constexpr (C::kDense && C::kSoftmax) {
      if (Base::wants_dense_entropy()) total(kDenseEntropy) += double(Base::dense_entropy);
      if (Base::wants_teacher_entropy()) total(kTeacherEntropy) += double(Base::teacher_entropy);
    }
  }

  JML_DEVICE void add_label_totals() {
    F entropy = 0, weights = 0;
    each_pixel([&](int v) {
      const int c = label_class(v);
      if (!valid(v) || c < 0) return;
      const F poison = Base::code[v] & Code::kBad ? F(NAN) : F(0);
      const F weight = Base::label_weight(c) + poison;
      weights += weight;
      if constexpr (C::kSoftmax) {
        const F log_total = Base::log_total[v];
        entropy += (1 - share(v)) * weight * (Base::descent[v] + log_total);
        if (off(v) != 0)
          entropy += off(v) * (Base::also[v] + log_total * (all_weights - weight));
      }
    });
    total(kLabelWeight) += double(weights);
    if (C::kSoftmax && Base::wants_label_entropy()) total(kLabelEntropy) += double(entropy);
  }

  // ---- a number for each class and pixel ----
  JML_DEVICE void add_columns_of_classes() {
    if constexpr (C::kGeneral) {
      add_chunks();
      return;
    }
    if (C::kLabels && args.has_labels()) {
      add_label_rows();
      each_pixel([&](int v) { add_label(v); });
    }
    if constexpr (C::kDense) {
      each([&](int k, int v) { z[k][v] = is_label(k, v) ? own[v] : x_of(k, v); });
      add_overlap(
          args.slots.of_dense, [&](int k, int v) { return z[k][v]; },
          [&](int k, int v) { return y[k][v]; },
          [&](int k, int v) { return y[k][v] - z[k][v]; });
    }
  }

  // Where the label is it is 0.
  JML_DEVICE F x_of(int k, int v) const { return z[k][v] * Base::inverse[v]; }

  // Against y = off, classes that are not the label.
  JML_DEVICE void add_label_rows() {
    bool any = false;
    if constexpr (!C::kHard) {
      each_pixel([&](int v) { any |= smoothed(v); });
      any = __any_sync(kAllLanes, any);
    }
    if (!any) {  // all of x is a false positive
      add(label_slot(kFalsePositive), [&](int k, int v) { return x_of(k, v); });
      return;
    }
    if constexpr (!C::kHard) {
      const auto gap = [&](int k, int v) { return off(v) - x_of(k, v); };
      add(label_slot(kTruePositive),
          [&](int k, int v) { return gap(k, v) > 0 ? x_of(k, v) : off(v); });
      add(label_slot(kFalsePositive),
          [&](int k, int v) { return gap(k, v) > 0 ? F(0) : -gap(k, v); });
      add(label_slot(kFalseNegative),
          [&](int k, int v) { return gap(k, v) > 0 && !is_label(k, v) ? gap(k, v) : F(0); });
      raise(label_slot(kTargetMax), [&](int, int v) { return off(v); });
    }
  }

  // The label's own terms, by the warp that has its class.
  JML_DEVICE void add_label(int v) {
    if constexpr (Sums<C>::kHasBins) {
      const int k = label[v];
      if (!valid(v) || k < 0 || k >= at.classes) return;
      if constexpr (C::kHard) {
        sums.bin(kBinTruePositive, k) += own[v];
        sums.bin(kBinFalseNegative, k) += miss[v];
      } else {
        const F on = 1 - share(v), gap = miss[v] - share(v);
        sums.bin(kBinTruePositive, k) += gap > 0 ? own[v] : on;
        sums.bin(kBinFalsePositive, k) += gap > 0 ? F(0) : -gap;
        sums.bin(kBinFalseNegative, k) += gap > 0 ? gap : F(0);
        sums.see(k, smoothed(v) ? kSeenSmoothed : kSeenHard);
      }
    }
  }

  // ---- x with the label in its place, y(k, v) and gap(k, v) = y - x ----
  template <typename Term>
  JML_DEVICE void add(int slot, Term term) {
    sums.template row<Add>(slot, at, [&](int k) {
      F sum = term(k, 0);
#pragma unroll
      for (int v = 1; v < V; ++v) sum += term(k, v);
      return sum;
    });
  }
  template <typename Term>
  JML_DEVICE void raise(int slot, Term term) {
    sums.template row<Largest>(slot, at, [&](int k) {
      F most = 0;
      each_pixel([&](int v) { most = Largest::apply(most, term(k, v)); });
      return most;
    });
  }

  // The columns of fast kernels. Where the gap is NaN so is the false positive.
  template <typename X, typename Y, typename Gap>
  JML_DEVICE void add_overlap(const int8_t (&slots)[kClassColumns], X x, Y y, Gap gap) {
    add(slots[kTruePositive], [&](int k, int v) { return gap(k, v) > 0 ? x(k, v) : y(k, v); });
    add(slots[kFalsePositive], [&](int k, int v) { return gap(k, v) > 0 ? F(0) : -gap(k, v); });
    add(slots[kFalseNegative], [&](int k, int v) { return gap(k, v) > 0 ? gap(k, v) : F(0); });
    add(slots[kIntersection], [&](int k, int v) { return x(k, v) * y(k, v); });
    raise(slots[kTargetMax], y);
  }

  // All of them.
  template <typename X, typename Y, typename Gap, typename Present>
  JML_DEVICE void add_columns(const int8_t (&slots)[kClassColumns], X x, Y y, Gap gap,
                              Present present) {
    add_overlap(slots, x, y, gap);
    add(slots[kPredictionSquared], [&](int k, int v) { return x(k, v) * x(k, v); });
    add(slots[kTargetSquared], [&](int k, int v) { return y(k, v) * y(k, v); });
    raise(slots[kPredictionMax], x);
    raise(slots[kJointMax], [&](int k, int v) { return x(k, v) + y(k, v); });
    raise(slots[kPresent], [&](int k, int v) {
      return valid(v) && present(k, v) ? F(1) : F(0);
    });
  }

  // Smoothing by 1 makes all classes equal, and the first the argmax.
  JML_DEVICE bool label_present(int k, int v) const {
    if (args.independent()) return Base::label_target(k, v) > F(0.5);
    const bool distinct = !smoothed(v) || args.label_smoothing < 1;
    return distinct ? is_label(k, v) : at.first_class + k == 0;
  }

  JML_DEVICE bool dense_present(int k, int v, F target) const {
    if (args.independent()) return target > F(0.5);
    return best[v] == F(at.first_class + k);
  }

  // NaN is larger than all.
  JML_DEVICE void find_largest_target() {
    if (args.slots.of_dense[kPresent] < 0 || args.independent()) return;
    F largest[1][V], first[1][V];
    const auto order = [&](int k, int v) {
      const F target = Base::dense_target(k, v);
      return target != target ? F(INFINITY) : target;
    };
    each_pixel([&](int v) { largest[0][v] = F(-INFINITY); });
    Base::each_chunk([&] {
      each([&](int k, int v) { largest[0][v] = Largest::apply(largest[0][v], order(k, v)); });
    });
    Base::exchange.template over_warps<Largest, 1>(team, largest);
    each_pixel([&](int v) { first[0][v] = F(INFINITY); });
    Base::each_chunk([&] {
      each([&](int k, int v) {
        const F c = F(at.first_class + k);
        if (order(k, v) == largest[0][v]) first[0][v] = Least::apply(first[0][v], c);
      });
    });
    Base::exchange.template over_warps<Least, 1>(team, first);
    each_pixel([&](int v) { best[v] = first[0][v]; });
  }

  // ---- general kernels: whatever the activation, chunk by chunk ----
  JML_DEVICE void add_chunks() {
    const bool of_bits = C::kDense && args.integer_dense();
    F any_bit[1][V] = {};
    Base::each_chunk([&] {
      if constexpr (!C::kSoftmax) add_entropies_of_elements();
      F x[K][V], missing_at_label[V] = {};
      int elements = 0;
      each([&](int k, int v) {
        F missing;
        x[k][v] = Base::probability(k, v, missing);
        missing_at_label[v] = is_label(k, v) ? missing : missing_at_label[v];
        if (of_bits && valid(v) && !Base::is_ignored_bit(k, v)) {
          any_bit[0][v] = 1;
          ++elements;
        }
      });
      total(kElements) += elements;
#pragma unroll 1
      for (int target = args.has_labels() ? 0 : 1; target < 1 + args.has_dense(); ++target) {
        const bool of_labels = target == 0;
        F targets[K][V], gap[K][V];
        each([&](int k, int v) {
          const F y = of_labels ? Base::label_target(k, v) : Base::dense_target(k, v);
          targets[k][v] = y;
          gap[k][v] =
              of_labels && is_label(k, v) ? missing_at_label[v] - share(v) : y - x[k][v];
        });
        add_columns(
            of_labels ? args.slots.of_labels : args.slots.of_dense,
            [&](int k, int v) { return x[k][v]; }, [&](int k, int v) { return targets[k][v]; },
            [&](int k, int v) { return gap[k][v]; },
            [&](int k, int v) {
              return of_labels ? label_present(k, v) : dense_present(k, v, targets[k][v]);
            });
      }
    });
    if (!of_bits) return;
    Base::exchange.template over_warps<Largest, 1>(team, any_bit);  // a pixel of which one counts
    if (team.warp == 0) each_pixel([&](int v) { total(kPixelsCounted) += any_bit[0][v]; });
  }

  // Cross-entropies that are no softmax's.
  JML_DEVICE void add_entropies_of_elements() {
    const F scale = F(args.student_scale);
    F of_labels = 0, of_dense = 0, of_teacher = 0;
    each([&](int k, int v) {
      if (!valid(v) || Base::is_ignored_bit(k, v)) return;
      const int c = at.first_class + k;
      const F poison = Base::code[v] & Code::kBad ? F(NAN) : F(0);
      if (Base::wants_label_entropy())
        of_labels += Base::label_weight(c) * entropy_term(z[k][v], Base::label_target(k, v)) + poison;
      const F target = Base::dense_target(k, v);
      if (Base::wants_dense_entropy())
        of_dense += Base::dense_weight(c) * entropy_term(z[k][v] * scale, target);
      if (Base::wants_teacher_entropy()) of_teacher += entropy_term(y[k][v], target);
    });
    total(kLabelEntropy) += double(of_labels);
    total(kDenseEntropy) += double(of_dense);
    total(kTeacherEntropy) += double(of_teacher);
  }

  // -y log x, and -(1 - y) log(1 - x) too where classes are independent.
  JML_DEVICE F entropy_term(F value, F target) const {
    if constexpr (C::kActivation == Activation::sigmoid) {
      const F beyond = log1p_of(exp_fast(value > 0 ? -value : value));
      return share_of(target, beyond - (value < 0 ? value : F(0))) +
             share_of(1 - target, beyond + (value > 0 ? value : F(0)));
    } else {
      const F hit = share_of(target, -log(value));
      return args.independent() ? hit + share_of(1 - target, -log(1 - value)) : hit;
    }
  }

  // ---- the end ----
  JML_DEVICE void write() {
    double* const row = args.partials + blockIdx.x * args.row;
    const int64_t count = args.slots.count * args.classes;
    if constexpr (!C::kGeneral) {
      team.sync();
      for (int64_t i = team.rank(); i < count; i += team.threads()) row[i] = sums.sums[i];
    }
    if (!has_totals()) return;
    for (int i = 0; i < kBlockTotals; ++i) {
      const double sum = sum_over_lanes(total(i));
      if (team.lane == 0) row[count + (C::kGeneral ? team.warp : 0) * kBlockTotals + i] = sum;
    }
  }
};

template <class C>
__global__ void __launch_bounds__(C::kMaxThreads, C::kMinBlocks)
    forward_kernel(const __grid_constant__ Arguments args) {
  Forward<C>(args).run();
}

}  // namespace jml::cuda
