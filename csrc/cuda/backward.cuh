// The backward kernel: the gradient of the logits, from that of the sums and of cross-entropies.
//
//     tile of logits -> state of each pixel (softmax) -> x, y -> g = d loss / d x
//         softmax: dz = x (g - sum over classes of x g)
//         sigmoid: dz = g x (1 - x)
//         plus, for cross-entropy, (sum of w y) x - w y
//
// What it should cost, as forward.cuh counts: 2 E b bytes and the labels, 168 MB or 56 us for
// 4 x 19 x 512 x 512 of float32; about 20 instructions an element, 15 us; 150 to 168 registers.
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
      Base::z;
  static constexpr int K = C::K, V = C::V;

  F* rules;
  F label_weights = 0;  // of cross-entropy, summed over classes
  // Of a pixel, over its classes: sum of x g; of the cross-entropies' weight times y.
  F dot[V], label_pull[V], dense_pull[V];

  static int64_t shared_bytes(const Arguments& args, int warps) {
    return Base::shared_bytes(warps, args.staged_bytes) +
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
      const GradientCoefficients<double> rule =
          gradient_coefficients(of(kTruePositive), of(kFalsePositive), of(kFalseNegative),
                        of(kIntersection), of(kPredictionSquared));
      const auto put = [&](RuleRow row, double value) {
        rules[(target * kRuleRows + row) * args.classes + c] = F(value);
      };
      put(kRuleA, C::kHard ? rule.constant + rule.of_sign : rule.constant);
      put(kRuleB, C::kHard ? rule.constant - rule.of_sign + rule.of_target : rule.of_sign);
      put(kRuleC, rule.of_target);
      put(kRuleD, rule.of_probability);
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
      const F g = counts ? rule(0, kRuleB, c) : F(0);
      const F pull = counts ? rule(0, kEntropyWeight, c) : F(0);
      const F sum = Base::also[v] * Base::inverse[v] + own[v] * g;
      label_gradient[v] = own[v] * (g - sum) - pull * miss[v];
      rest[v] = pull - sum;
    });
    Base::each_class([&](int k) {
      const F g = rule(0, kRuleA, at.first_class + k);
      each_pixel([&](int v) {
        const F dz = is_label(k, v) ? label_gradient[v] : z[k][v] * Base::inverse[v] * (g + rest[v]);
        z[k][v] = valid(v) ? dz : F(0);
      });
    });
    store_tile<false>(z, args, args.grad, args.read_grad, at, team, Base::staging);
  }

  // ---- any target ----
  // The rules of a class, in registers: those that the kernel's columns need.
  struct Rule {
    F a = 0, b = 0, c = 0, d = 0, weight = 0;
  };
  JML_DEVICE Rule rule_of(int target, int c) const {
    Rule found;
    found.a = rule(target, kRuleA, c);
    found.b = rule(target, kRuleB, c);
    if constexpr (C::kDense) found.c = rule(target, kRuleC, c);
    if constexpr (C::kGeneral) found.d = rule(target, kRuleD, c);
    found.weight = rule(target, kEntropyWeight, c);
    return found;
  }
  JML_DEVICE Rule rule_of_labels(int c) const {
    return C::kLabels && args.has_labels() ? rule_of(0, c) : Rule{};
  }
  JML_DEVICE Rule rule_of_dense(int c) const {
    return C::kDense && args.has_dense() ? rule_of(args.has_labels(), c) : Rule{};
  }

  JML_DEVICE static F slope(const Rule& rule, F x, F y_of_x, F gap) {
    F g = rule.a + (gap > 0 ? -rule.b : gap < 0 ? rule.b : F(0));
    if constexpr (C::kDense) g += rule.c * y_of_x;
    if constexpr (C::kGeneral) g += rule.d * x;
    return g;
  }

  // An element: x, 1 - x (of a softmax, at the label), the targets, and g.
  struct Element {
    F x, missing, label_y, dense_y, g;
  };
  JML_DEVICE Element element(int k, int v, const Rule& labels, const Rule& dense) const {
    Element found{};
    if constexpr (C::kGeneral) {
      found.x = Base::probability(k, v, found.missing);
    } else {
      found.x = z[k][v];
      found.missing = miss[v];
    }
    if constexpr (C::kLabels) {
      found.label_y = Base::label_target(k, v);
      const F gap = is_label(k, v) ? found.missing - share(v) : found.label_y - found.x;
      if (!C::kDense || args.has_labels()) found.g += slope(labels, found.x, found.label_y, gap);
    }
    if constexpr (C::kDense) {
      found.dense_y = Base::dense_target(k, v);
      if (!C::kGeneral || args.has_dense())
        found.g += slope(dense, found.x, found.dense_y, found.dense_y - found.x);
    }
    return found;
  }

  JML_DEVICE void write_gradient() {
    if constexpr (!C::kGeneral)  // from here on the tile holds x
      each([&](int k, int v) {
        z[k][v] = is_label(k, v) ? own[v] : z[k][v] * Base::inverse[v];
      });
    if constexpr (C::kSoftmax) add_over_classes();
    Base::each_chunk([&] {
      Base::each_class([&](int k) {
        const Rule labels = rule_of_labels(at.first_class + k);
        const Rule dense = rule_of_dense(at.first_class + k);
        each_pixel([&](int v) {
          const F dz = element_gradient(k, v, element(k, v, labels, dense), labels, dense);
          z[k][v] = valid(v) && !Base::is_ignored_bit(k, v) ? dz : F(0);
        });
      });
      store_tile<C::kGeneral>(z, args, args.grad, args.read_grad, at, team, Base::staging);
    });
  }

  JML_DEVICE void add_over_classes() {
    F sums[2][V] = {};
    Base::each_chunk([&] {
      Base::each_class([&](int k) {
        const Rule labels = rule_of_labels(at.first_class + k);
        const Rule dense = rule_of_dense(at.first_class + k);
        each_pixel([&](int v) {
          const Element here = element(k, v, labels, dense);
          sums[0][v] += here.x * here.g;
          if constexpr (C::kDense) sums[1][v] += dense.weight * here.dense_y;
        });
      });
    });
    Base::exchange.template over_warps<Add, C::kDense ? 2 : 1>(team, sums);
    each_pixel([&](int v) {
      dot[v] = sums[0][v];
      dense_pull[v] = sums[1][v];
      const int c = label_class(v);
      const bool counts = C::kLabels && valid(v) && c >= 0;
      label_pull[v] = counts ? rule(0, kEntropyWeight, c) : F(0);
    });
  }

  JML_DEVICE F element_gradient(int k, int v, const Element& here, const Rule& labels,
                                const Rule& dense) const {
    if constexpr (C::kSoftmax) {
      F dz = here.x * (here.g - dot[v]);
      if constexpr (C::kLabels) {  // the label's weight times y there, and the others' times theirs
        const F own_part = (1 - share(v)) * label_pull[v];
        const F others = off(v) * (label_weights - label_pull[v]);
        dz += is_label(k, v) ? here.x * others - own_part * here.missing
                             : here.x * (own_part + others) - here.label_y * labels.weight;
      }
      if constexpr (C::kDense) {
        F p = here.x;
        if constexpr (C::kGeneral) {
          if (args.student_scale != 1 && Base::wants_dense_entropy())
            p = exp_fast((z[k][v] - Base::top[v]) * F(args.student_scale)) *
                reciprocal(1 + Base::tempered_rest[v]);
        }
        dz += p * dense_pull[v] - here.dense_y * dense.weight;
      }
      return dz;
    } else {
      F dz = C::kActivation == Activation::sigmoid ? here.g * here.x * here.missing : here.g;
      dz += entropy_gradient(z[k][v], here.x, here.label_y, labels.weight);
      const F scaled = z[k][v] * F(args.student_scale);
      dz += entropy_gradient(scaled, Base::sigmoid_of(scaled), here.dense_y, dense.weight);
      return dz;
    }
  }

  // Of independent classes, and of probabilities: d/dz of -y log x - (1 - y) log(1 - x).
  JML_DEVICE F entropy_gradient(F value, F x, F target, F weight) const {
    if (weight == 0) return 0;  // nobody asked for it, where it may be infinite
    if constexpr (C::kActivation == Activation::sigmoid) return weight * (x - target);
    // 0 log 0 has gradient 0 too.
    F g = target == 0 && value == 0 ? F(0) : -target / value;
    if (args.independent())
      g += target == 1 && value == 1 ? F(0) : (1 - target) / (1 - value);
    return weight * g;
  }
};

template <class C>
__global__ void __launch_bounds__(C::kMaxThreads, C::kMinBlocks)
    backward_kernel(const __grid_constant__ Arguments args) {
  Backward<C>(args).run();
}

}  // namespace jml::cuda
