// The backward kernel: the gradient of the logits, from that of the sums and of cross-entropies.
//
//     tile of logits -> state of each pixel (softmax) -> x, y -> g = d loss / d x
//         softmax: dz = x (g - sum over classes of x g)
//         sigmoid: dz = g x (1 - x)
//         plus, for cross-entropy, (sum of w y) x - w y
//
// It may be written over the logits: a tile, or a chunk of it, is read for the last time before it
// is written.
#pragma once

#include "look.cuh"

namespace jml::cuda {

// The rule of g (pixel_math.h) for each class of an image, in shared memory: of labels, then of the
// dense target.
enum RuleRow { kRuleA, kRuleB, kRuleC, kRuleD, kEntropyWeight, kRuleRows };

template <class C>
struct Backward : Look<C> {
  using Base = Look<C>;
  using F = typename C::F;
  using Base::args, Base::at, Base::each, Base::each_pixel, Base::is_label,
      Base::label_class, Base::off, Base::own, Base::miss, Base::share, Base::team, Base::valid,
      Base::y, Base::z;
  static constexpr int K = C::K, V = C::V;

  F* rules;
  F label_weights = 0;  // of cross-entropy, summed over classes
  // Of a pixel, over its classes: sum of x g; of the cross-entropies' weight times y.
  F dot[V], label_pull[V], dense_pull[V];

  static int64_t shared_bytes(const Arguments& args, int warps) {
    return Base::shared_bytes(warps, args.stage) +
           args.targets() * kRuleRows * args.classes * int64_t(sizeof(F));
  }

  JML_DEVICE explicit Backward(const Arguments& args)
      : Base(args), rules(reinterpret_cast<F*>(Base::rest_of_memory())) {
    for (int target = 0; target < args.targets(); ++target) write_rules(target);
    team.sync();
    if (C::kLabels && args.has_labels() && args.off != 0)
      for (int c = 0; c < args.classes; ++c) label_weights += rule(0, kEntropyWeight, c);
  }

  JML_DEVICE void run() {
    for (int turn = 0; Base::enter(turn); ++turn) {
      if constexpr (C::kSoftmax) {
        Base::find_tops();
        Base::template add_exponentials<false>(
            [&](int k, F e) { return e * rule(0, kRuleA, at.first_class + k); });
      }
      if constexpr (C::kHard)
        write_hard_gradient();
      else
        write_gradient();
    }
  }

 private:
  JML_DEVICE F rule(int target, RuleRow row, int c) const {
    return rules[(target * kRuleRows + row) * args.classes + c];
  }
  JML_DEVICE F label_rule(RuleRow row, int c) const { return rule(0, row, c); }
  JML_DEVICE F dense_rule(RuleRow row, int c) const { return rule(args.has_labels(), row, c); }
  // Of hard labels A is g of the classes that are not the label, and B that of the label.
  JML_DEVICE void write_rules(int target) {
    const double factor = args.scale.at(0);
    const int64_t step = args.images * args.classes;
    const double* const sums =
        args.grad_sums + target * kSums * step + at.image * args.classes;
    const double total = args.grad_totals[target * kTotals * args.images + at.image] * factor;
    const Columns& columns = args.columns(target);
    for (int64_t c = team.rank(); c < args.classes; c += team.threads()) {
      const auto of = [&](int column) {
        return columns.wants(column) ? factor * sums[column * step + c] : 0.0;
      };
      const GradientRule<double> rule =
          gradient_rule(of(kTruePositive), of(kFalsePositive), of(kFalseNegative),
                        of(kIntersection), of(kPredictionSquared));
      const auto put = [&](RuleRow row, double value) {
        rules[(target * kRuleRows + row) * args.classes + c] = F(value);
      };
      put(kRuleA, C::kHard ? rule.a + rule.b : rule.a);
      put(kRuleB, C::kHard ? rule.a - rule.b + rule.c : rule.b);
      put(kRuleC, rule.c);
      put(kRuleD, rule.d);
      const bool is_first = target == 0;
      const double weight = is_first ? args.ce_class_weights.at(c) : 1.0;
      const bool is_dense = target == int(args.has_labels());
      const double scale = is_dense ? args.student_scale : 1.0;
      put(kEntropyWeight, columns.wants(kCrossEntropy) ? weight * total * scale : 0.0);
    }
  }

  // ---- hard labels: g is one of two numbers of the class ----
  JML_DEVICE void write_hard_gradient() {
    F label_gradient[V], rest[V];
    each_pixel([&](int v) {
      const int c = label_class(v);
      const bool counts = valid(v) && c >= 0;
      const F g = counts ? label_rule(kRuleB, c) : F(0);
      const F pull = counts ? label_rule(kEntropyWeight, c) : F(0);
      const F sum = Base::also[v] * Base::inverse[v] + own[v] * g;
      label_gradient[v] = own[v] * (g - sum) - pull * miss[v];
      rest[v] = pull - sum;
    });
    Base::each_class([&](int k) {
      const F g = label_rule(kRuleA, at.first_class + k);
      each_pixel([&](int v) {
        const F dz = is_label(k, v) ? label_gradient[v] : z[k][v] * Base::inverse[v] * (g + rest[v]);
        z[k][v] = valid(v) ? dz : F(0);
      });
    });
    store_tile<false>(z, args, args.grad, args.read_grad, at, team, Base::staging);
  }

  // ---- any target ----
  // Fast kernels have no rows for what their columns do not need.
  JML_DEVICE F slope(int target, int c, F x, F y_of_x, F gap) const {
    const F b = rule(target, kRuleB, c);
    F g = rule(target, kRuleA, c) + (gap > 0 ? -b : gap < 0 ? b : F(0));
    if constexpr (C::kDense) g += rule(target, kRuleC, c) * y_of_x;
    if constexpr (C::kGeneral) g += rule(target, kRuleD, c) * x;
    return g;
  }

  JML_DEVICE F label_target(int k, int v) const {
    return is_label(k, v) ? 1 - share(v) : valid(v) ? off(v) : F(0);
  }

  JML_DEVICE F slope_of(int k, int v, F x, F missing, F target) const {
    F g = 0;
    const int c = at.first_class + k;
    if (C::kLabels && args.has_labels()) {
      const F y = label_target(k, v);
      g += slope(0, c, x, y, is_label(k, v) ? missing - share(v) : y - x);
    }
    if (C::kDense && args.has_dense())
      g += slope(args.has_labels(), c, x, target, target - x);
    return g;
  }

  JML_DEVICE void write_gradient() {
    if constexpr (!C::kGeneral) {  // from here on the tile holds x
      each([&](int k, int v) {
        z[k][v] = is_label(k, v) ? own[v] : z[k][v] * Base::inverse[v];
      });
    }
    if constexpr (C::kSoftmax) add_over_classes();
    Base::each_chunk([&] {
      each([&](int k, int v) {
        F missing, x = x_of(k, v, missing);
        const F gradient = element_gradient(k, v, x, missing, Base::dense_target(k, v));
        z[k][v] = valid(v) && !Base::is_ignored_bit(k, v) ? gradient : F(0);
      });
      store_tile<C::kGeneral>(z, args, args.grad, args.read_grad, at, team, Base::staging);
    });
  }

  JML_DEVICE F x_of(int k, int v, F& missing) const {
    if constexpr (C::kGeneral) {
      return Base::probability(k, v, missing);
    } else {
      missing = miss[v];
      return z[k][v];
    }
  }
  JML_DEVICE void add_over_classes() {
    F sums[2][V] = {};
    Base::each_chunk([&] {
      each([&](int k, int v) {
        F missing, x = x_of(k, v, missing);
        const F target = Base::dense_target(k, v);
        sums[0][v] += x * slope_of(k, v, x, missing, target);
        if (C::kDense && args.has_dense())
          sums[1][v] += dense_rule(kEntropyWeight, at.first_class + k) * target;
      });
    });
    Base::exchange.template over_warps<Add, C::kDense ? 2 : 1>(team, sums);
    each_pixel([&](int v) {
      dot[v] = sums[0][v];
      dense_pull[v] = sums[1][v];
      const int c = label_class(v);
      const bool counts = C::kLabels && valid(v) && c >= 0;
      label_pull[v] = counts ? label_rule(kEntropyWeight, c) : F(0);
    });
  }

  JML_DEVICE F element_gradient(int k, int v, F x, F missing, F target) const {
    const int c = at.first_class + k;
    const F g = slope_of(k, v, x, missing, target);
    const bool of_labels = C::kLabels && args.has_labels();
    const bool of_dense = C::kDense && args.has_dense();
    if constexpr (C::kSoftmax) {
      F dz = x * (g - dot[v]);
      if (of_labels) {  // the label's weight times y there, and the others' times theirs
        const F others = off(v) * (label_weights - label_pull[v]);
        const F all = (1 - share(v)) * label_pull[v] + others;
        dz += is_label(k, v)
                  ? x * others - (1 - share(v)) * label_pull[v] * missing
                  : x * all - label_target(k, v) * label_rule(kEntropyWeight, c);
      }
      if (of_dense) {
        F p = x;
        if constexpr (C::kGeneral) {
          if (args.student_scale != 1 && Base::wants_dense_entropy())
            p = exp_fast((z[k][v] - Base::top[v]) * F(args.student_scale)) *
                reciprocal(1 + Base::tempered_rest[v]);
        }
        dz += p * dense_pull[v] - target * dense_rule(kEntropyWeight, c);
      }
      return dz;
    } else {
      F dz = C::kActivation == Activation::sigmoid ? g * x * missing : g;
      if (of_labels) {
        const F weight = label_rule(kEntropyWeight, c);
        dz += entropy_gradient(z[k][v], x, label_target(k, v), weight);
      }
      if (of_dense) {
        const F scaled = z[k][v] * F(args.student_scale);
        dz += entropy_gradient(scaled, Base::sigmoid_of(scaled), target,
                               dense_rule(kEntropyWeight, c));
      }
      return dz;
    }
  }

  // Of independent classes, and of probabilities: d/dz of -y log x - (1 - y) log(1 - x).
  JML_DEVICE F entropy_gradient(F value, F x, F target, F weight) const {
    if constexpr (C::kActivation == Activation::sigmoid) return weight * (x - target);
    if (weight == 0) return 0;  // nobody asked for it, where it may be infinite
    // 0 log 0 has gradient 0 too.
    F g = target == 0 && value == 0 ? F(0) : -target / value;
    if (args.independent())
      g += target == 1 && value == 1 ? F(0) : (1 - target) / (1 - value);
    return weight * g;
  }
};

template <class C>
__global__ void __launch_bounds__(C::kMaxThreads, 1)
    backward_kernel(const __grid_constant__ Arguments args) {
  Backward<C>(args).run();
}

}  // namespace jml::cuda
