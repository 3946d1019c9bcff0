// The backward kernel: the gradient of the logits, from that of the sums and of cross-entropies.
//
//     tile of logits -> state of each pixel (softmax) -> p, y -> g = d loss / d p
//         softmax: dz = p (g - dot), where dot is the sum of p g over classes
//         sigmoid: dz = g p (1 - p)
//         plus, for a cross-entropy with a softmax, p (sum of q w y over classes) - q w y
//
// Here q is the gradient of the loss by the sum of cross-entropies, and w the weight of a class.
//
// What it costs, counted as forward.cuh counts: 2 E b bytes and the labels, which are 168 MB for
// 4 x 19 x 512 x 512 of float32; 35 instructions of a thread for each element, which take 0.4 times
// as long to issue as these bytes take to move (37 and 0.8 times for float16); and 91 registers,
// which leave room for 20 warps on a multiprocessor. Smoothed labels take 50, since g needs p, whose
// sum is found first, and boundaries another 11: a tile has half of the forward's pixels.
//
// The gradient may be written over the logits: a tile, or a chunk of it, is read for the last time
// before it is written.
#pragma once

#include "coefficients.cuh"
#include "patch.cuh"
#include "pixel_state.cuh"

namespace jml::cuda {

// What the gradient needs of each class of an image, in shared memory: the GradientCoefficients of
// pixel_math.h, and q w. Those of labels come first, then those of the dense target. Fast kernels
// have no use for the last one, so that the others of a class are 16 bytes, which are read at once.
enum Coefficient { kHalfAbove, kHalfBelow, kOfTarget, kQw, kOfProbability, kCoefficients };
// With labels alone g is one of two numbers of the class, for p above the target and below it, and
// these are in the first two places.
constexpr Coefficient kGradientAbove = kHalfAbove, kGradientBelow = kHalfBelow;

template <class C>
struct Backward : PixelState<C> {
  using Base = PixelState<C>;
  using F = typename C::F;
  using Base::args, Base::each, Base::each_pixel, Base::is_label, Base::label_class,
      Base::label_deficit, Base::p_label, Base::p_not_label, Base::range, Base::target_at_label,
      Base::target_elsewhere, Base::team, Base::tile, Base::valid;
  static constexpr int K = C::K, V = C::V;

  static constexpr bool kLabelsAlone = C::kLabels && !C::kDense;
  static constexpr int kStored = C::kGeneral ? kCoefficients : kOfProbability;

  std::conditional_t<C::kHasBox, PatchSums<C>, NoPatch> patch;
  F* coefficients;    // [targets][classes][kStored]
  F qw_sum = 0;       // of the labels' cross-entropy, over all classes
  F dot[V];           // sum of p g over classes
  F label_qw[V];      // q w of the label's class
  F dense_q_mass[V];  // sum of q w y of the dense target over classes: q times its target mass

  static int64_t shared_bytes(const Arguments& args, int warps) {
    return Base::shared_bytes(warps, args.staged_bytes) + decltype(patch)::shared_bytes(args) +
           args.targets() * args.classes * kStored * int64_t(sizeof(F));
  }

  JML_DEVICE explicit Backward(const Arguments& args)
      : Base(args),
        patch(args, team, Base::free_memory(), *Base::box),
        coefficients(reinterpret_cast<F*>(Base::free_memory() +
                                          decltype(patch)::shared_bytes(args))) {
    for (int target = 0; target < args.targets(); ++target) write_coefficients(target);
    team.sync();
    if (Base::has_labels() && args.target_elsewhere != 0)
      for (int c = 0; c < args.classes; ++c) qw_sum += coefficient(0, kQw, c);
  }

  JML_DEVICE void run() {
    for (int step = 0; Base::enter(step); ++step) {
      if constexpr (kLabelsAlone) {
        Base::go_through(
            Base::z_max_pass(), exponentials_pass(),
            Base::pass(
                !C::kHard, [&] { Base::clear_sums(); }, [&] { add_others_to_dot(); },
                [&] { end_dot_of_others(); }));
        write_gradient_of_labels();
        continue;
      }
      const auto gradient_pass =
          Base::pass(true, Base::kNothing, [&] { write_gradient(); }, Base::kNothing);
      if constexpr (C::kSoftmax)
        Base::go_through(
            Base::z_max_pass(), Base::template teacher_pass<false>(), exponentials_pass(),
            Base::pass(
                true, [&] { begin_dot(); }, [&] { add_to_dot(); }, [&] { end_dot(); }),
            gradient_pass);
      else
        Base::go_through(gradient_pass);
    }
    if constexpr (C::kHasBox) {
      if (Base::upsamples()) patch.write_before(INT64_MAX, range.image);
    }
  }

 private:
  // Hands over the gradient that the tile holds, of a chunk of classes.
  JML_DEVICE void give_back() {
    if constexpr (C::kHasBox) {
      if (Base::upsamples()) {
        give_to_patch();
        return;
      }
    }
    if constexpr (!C::kUpsample)
      store_tile<C>(tile, args, args.grad, args.grad_access, range, team, Base::staging);
  }
  JML_DEVICE void give_to_patch() {
    const auto& places = Base::tile_places[0];
    F* const rows = Base::rows();
    __syncwarp();  // whoever still reads the logits there
    each([&](int k, int v) {
      rows[k * TileRows<C>::kPitch + v * kLanes + team.lane] = tile[k][v];
    });
    patch.write_before(places.depth.lower, range.image);
    team.sync();
    const int first_class = range.first_class - team.warp * args.classes_per_warp;
    const int left = int(args.classes) - first_class, most = team.warps * args.classes_per_warp;
    patch.add(reinterpret_cast<const F*>(Base::staging), places, range.pixels, first_class,
              left < most ? left : most);
    if (team.rank() == 0) patch.set_open(places.depth.lower);
    team.sync();
  }

  JML_DEVICE F* coefficients_at(int target, int64_t c) const {
    return coefficients + (target * args.classes + c) * kStored;
  }
  JML_DEVICE F coefficient(int target, Coefficient which, int c) const {
    return coefficients_at(target, c)[which];
  }
  JML_DEVICE void write_coefficients(int target) {
    const bool is_dense = target == int(Base::has_labels());
    const double scale = is_dense ? args.student_scale : 1.0;
    for (int64_t c = team.rank(); c < args.classes; c += team.threads()) {
      const ClassGradient of_class = class_gradient(args, range.image, target, c, scale);
      const auto put = [&](Coefficient which, double value) {
        coefficients_at(target, c)[which] = F(value);
      };
      if constexpr (kLabelsAlone) {
        put(kGradientAbove, of_class.above());
        put(kGradientBelow, of_class.below());
      } else {
        put(kHalfAbove, of_class.overlap.half_above);
        put(kHalfBelow, of_class.overlap.half_below);
      }
      put(kOfTarget, of_class.overlap.of_target);
      if constexpr (C::kGeneral) put(kOfProbability, of_class.overlap.of_probability);
      put(kQw, of_class.qw);
    }
  }

  JML_DEVICE auto exponentials_pass() {
    return Base::template exponentials_pass<false>([this](int k, F e) {
      return e * coefficient(0, kGradientAbove, range.first_class + k);
    });
  }

  // ---- labels alone ----
  // What is stored of a class. Where it is not the label, hard labels need one number of it.
  struct Sides {
    F above = 0, below = 0, qw = 0;
  };
  JML_DEVICE Sides sides_of(int c) const {
    F stored[kStored];
    unpack(load_pack<F, kStored>(coefficients_at(0, c)), stored);
    return {stored[kGradientAbove], stored[kGradientBelow], stored[kQw]};
  }
  JML_DEVICE Sides sides_elsewhere(int c) const {
    if constexpr (C::kHard) return {coefficient(0, kGradientAbove, c)};
    return sides_of(c);
  }

  JML_DEVICE static F side(const Sides& of_class, F excess) {
    return cuda::side(of_class.above, of_class.below, excess);
  }

  // g of a class that is not the label. Without smoothing its target is 0, and p is above it.
  JML_DEVICE F gradient_elsewhere(const Sides& of_class, F e, int v) const {
    if constexpr (C::kHard) return of_class.above;
    return side(of_class, e * Base::inverse_exp_sum[v] - target_elsewhere(v));
  }

  // The sum of e g over the classes but the label, which hard labels find with the exponentials.
  JML_DEVICE void add_others_to_dot() {
    Base::each_class([&](int k) {
      const Sides of_class = sides_elsewhere(range.first_class + k);
      each_pixel([&](int v) {
        Base::pass_sums[0][v] += tile[k][v] * gradient_elsewhere(of_class, tile[k][v], v);
      });
    });
  }
  JML_DEVICE void end_dot_of_others() {
    Base::exchange.template over_warps<Add, 1>(team, Base::pass_sums);
    each_pixel([&](int v) { Base::gradient_exp_sum[v] = Base::pass_sums[0][v]; });
  }

  JML_DEVICE void write_gradient_of_labels() {
    F dz_at_label[V], q_mass_less_dot[V];
    each_pixel([&](int v) {
      const int c = label_class(v);
      const bool counts = valid(v) && c >= 0;
      const Sides at_label = counts ? sides_of(c) : Sides{};
      const F g = C::kHard ? at_label.below : side(at_label, label_deficit(v) - p_not_label[v]);
      const F qw = at_label.qw;
      // The sum of q w y over classes: at the label, and elsewhere.
      const F q_mass = target_at_label(v) * qw;
      const F q_mass_elsewhere = C::kHard ? F(0) : target_elsewhere(v) * (qw_sum - qw);
      // g - dot at the label, where g - p g = g p_not has the digits of a confident prediction.
      const F dot_of_others = Base::gradient_exp_sum[v] * Base::inverse_exp_sum[v];
      dot[v] = dot_of_others + p_label[v] * g;
      dz_at_label[v] = p_label[v] * (g * p_not_label[v] - dot_of_others + q_mass_elsewhere) -
                       q_mass * p_not_label[v];
      q_mass_less_dot[v] = q_mass + q_mass_elsewhere - dot[v];
    });
    Base::each_class([&](int k) {
      const Sides of_class = sides_elsewhere(range.first_class + k);
      each_pixel([&](int v) {
        const F e = tile[k][v], g = gradient_elsewhere(of_class, e, v);
        F dz = e * Base::inverse_exp_sum[v] * (g + q_mass_less_dot[v]);
        if constexpr (!C::kHard) dz -= target_elsewhere(v) * of_class.qw;
        dz = is_label(k, v) ? dz_at_label[v] : dz;
        tile[k][v] = valid(v) ? dz : F(0);
      });
    });
    give_back();
  }

  // ---- any target ----
  // The coefficients of a class in registers, as far as the kernel's columns need them.
  struct ClassCoefficients {
    GradientCoefficients<F> overlap{};
    F qw = 0;
  };
  JML_DEVICE ClassCoefficients coefficients_of(int target, int c) const {
    ClassCoefficients of_class;
    if constexpr (C::kGeneral) {
      of_class.overlap = {coefficient(target, kHalfAbove, c), coefficient(target, kHalfBelow, c),
                          coefficient(target, kOfTarget, c),
                          coefficient(target, kOfProbability, c)};
      of_class.qw = coefficient(target, kQw, c);
    } else {
      F stored[kStored];
      unpack(load_pack<F, kStored>(coefficients_at(target, c)), stored);
      of_class.overlap = {stored[kHalfAbove], stored[kHalfBelow], stored[kOfTarget], F(0)};
      of_class.qw = stored[kQw];
    }
    return of_class;
  }
  JML_DEVICE ClassCoefficients coefficients_of_labels(int c) const {
    return Base::has_labels() ? coefficients_of(0, c) : ClassCoefficients{};
  }
  JML_DEVICE ClassCoefficients coefficients_of_dense(int c) const {
    return Base::has_dense() ? coefficients_of(Base::has_labels(), c) : ClassCoefficients{};
  }

  // g of one target; the sign of the gap is that of y - p.
  JML_DEVICE static F overlap_gradient(const GradientCoefficients<F>& coefficients, F p, F y,
                                       F gap) {
    F g = (gap > 0 ? coefficients.half_below : coefficients.half_above) +
          (gap < 0 ? coefficients.half_above : coefficients.half_below);
    if constexpr (C::kDense) g += coefficients.of_target * y;
    if constexpr (C::kGeneral) g += coefficients.of_probability * p;
    return g;
  }

  // One class of one pixel. p_not is 1 - p, of a softmax at the label only; g is the sum of those
  // of both targets.
  struct Element {
    F p, p_not, label_target, dense_target, g;
  };
  template <bool kSomeIgnored>
  JML_DEVICE Element element_of(int k, int v, const ClassCoefficients& labels,
                                const ClassCoefficients& dense) const {
    Element element{};
    if constexpr (C::kGeneral) {
      element.p = Base::probability(k, v, element.p_not);
    } else {
      element.p = tile[k][v];
      element.p_not = p_not_label[v];
    }
    if constexpr (C::kLabels) {
      element.label_target = Base::label_target(k, v);
      const F gap = is_label(k, v) ? element.p_not - label_deficit(v)
                                   : element.label_target - element.p;
      if (Base::has_labels())
        element.g += overlap_gradient(labels.overlap, element.p, element.label_target, gap);
    }
    if constexpr (C::kDense) {
      element.dense_target = Base::dense_target(k, v);
      if (Base::has_dense())
        element.g += overlap_gradient(dense.overlap, element.p, element.dense_target,
                                      element.dense_target - element.p);
    }
    // An ignored element is in no sum, but it is a class of the softmax.
    if constexpr (kSomeIgnored) element.g = Base::is_ignored(k, v) ? F(0) : element.g;
    return element;
  }

  JML_DEVICE void write_gradient() {
    with_elements([&](auto some_ignored, int k, int v, const ClassCoefficients& labels,
                      const ClassCoefficients& dense) {
      constexpr bool kSomeIgnored = decltype(some_ignored)::value;
      const Element element = element_of<kSomeIgnored>(k, v, labels, dense);
      const F dz = logit_gradient(k, v, element, labels, dense);
      // A softmax hands to an ignored element what the others have to do with it.
      const bool counts = valid(v) && (C::kSoftmax || !Base::is_ignored(k, v));
      tile[k][v] = counts ? dz : F(0);
    });
    give_back();
  }

  // Calls body(some_ignored, k, v, labels, dense), the last two the coefficients of the class, for
  // the elements of a chunk. Threads of fast kernels that have no ignored elements, which are most,
  // do not look for any.
  template <typename Body>
  JML_DEVICE void with_elements(Body body) const {
    const auto go = [&](auto some_ignored) {
      Base::each_class([&](int k) {
        const ClassCoefficients labels = coefficients_of_labels(range.first_class + k);
        const ClassCoefficients dense = coefficients_of_dense(range.first_class + k);
        each_pixel([&](int v) { body(some_ignored, k, v, labels, dense); });
      });
    };
    if constexpr (C::kGeneral)
      go(std::true_type{});
    else if constexpr (!C::kDense)
      go(std::false_type{});
    else if (Base::has_ignored())
      go(std::true_type{});
    else
      go(std::false_type{});
  }

  // Finds what the gradient of a softmax needs of all classes.
  enum { kDot, kDenseQMass, kSumsOfPixel };  // of `pass_sums`
  JML_DEVICE void begin_dot() {
    if constexpr (!C::kGeneral)  // from here on the tile holds p
      each([&](int k, int v) {
        tile[k][v] = is_label(k, v) ? p_label[v] : tile[k][v] * Base::inverse_exp_sum[v];
      });
    Base::clear_sums();
  }
  JML_DEVICE void add_to_dot() {
    with_elements([&](auto some_ignored, int k, int v, const ClassCoefficients& labels,
                      const ClassCoefficients& dense) {
      constexpr bool kSomeIgnored = decltype(some_ignored)::value;
      const Element element = element_of<kSomeIgnored>(k, v, labels, dense);
      Base::pass_sums[kDot][v] += element.p * element.g;
      if constexpr (C::kDense)
        Base::pass_sums[kDenseQMass][v] += dense.qw * element.dense_target;
    });
  }
  JML_DEVICE void end_dot() {
    Base::exchange.template over_warps<Add, C::kDense ? kSumsOfPixel : 1>(team, Base::pass_sums);
    each_pixel([&](int v) {
      dot[v] = Base::pass_sums[kDot][v];
      dense_q_mass[v] = Base::pass_sums[kDenseQMass][v];
      const int c = label_class(v);
      const bool counts = C::kLabels && valid(v) && c >= 0;
      label_qw[v] = counts ? coefficient(0, kQw, c) : F(0);
    });
  }

  JML_DEVICE F logit_gradient(int k, int v, const Element& element, const ClassCoefficients& labels,
                              const ClassCoefficients& dense) const {
    if constexpr (C::kSoftmax) {
      F dz = softmax_gradient(element.p, element.g, dot[v]);
      if constexpr (C::kLabels) {  // the sum of q w y over classes comes in two parts
        const F q_mass_at_label = target_at_label(v) * label_qw[v];
        const F q_mass_elsewhere = target_elsewhere(v) * (qw_sum - label_qw[v]);
        dz += is_label(k, v) ? element.p * q_mass_elsewhere - q_mass_at_label * element.p_not
                             : element.p * (q_mass_at_label + q_mass_elsewhere) -
                                   element.label_target * labels.qw;
      }
      if constexpr (C::kDense) {
        F p = element.p;  // at the temperature of the student
        if constexpr (C::kGeneral) {
          if (args.student_scale != 1 && Base::dense_cross_entropy_requested())
            p = exp_fast((tile[k][v] - Base::z_max[v]) * F(args.student_scale)) *
                reciprocal(1 + Base::tempered_exp_sum_minus_1[v]);
        }
        dz += p * dense_q_mass[v] - element.dense_target * dense.qw;
      }
      return dz;
    } else {
      F dz = C::kActivation == Activation::sigmoid
                 ? sigmoid_gradient(element.p, element.p_not, element.g)
                 : element.g;
      dz += ce_gradient(tile[k][v], element.p, element.label_target, labels.qw);
      const F scaled = tile[k][v] * F(args.student_scale);
      dz += ce_gradient(scaled, Base::sigmoid_of(scaled), element.dense_target, dense.qw);
      return dz;
    }
  }

  // q w times the derivative of -y log p - (1 - y) log(1 - p), of independent classes, or of
  // -y log p.
  JML_DEVICE F ce_gradient(F value, F p, F target, F qw) const {
    if (qw == 0) return 0;  // nobody requests it, and it may be infinite
    if constexpr (C::kActivation == Activation::sigmoid) return qw * (p - target);
    // 0 log 0 has the gradient 0 too.
    F g = target == 0 && value == 0 ? F(0) : -target / value;
    if (args.independent())
      g += target == 1 && value == 1 ? F(0) : (1 - target) / (1 - value);
    return qw * g;
  }
};

template <class C>
__global__ void __launch_bounds__(C::kMaxThreads, C::kMinBlocks)
    backward_kernel(const __grid_constant__ Arguments args) {
  Backward<C>(args).run();
}

}  // namespace jml::cuda
