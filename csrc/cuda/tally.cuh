// The kernel that counts for metrics: one pass over the logits, of which nothing is written but a
// small integer for each pixel.
//
//     tile of logits -> largest logit and its class -> sums of exponentials -> probabilities
//         -> pairs of label and prediction, bins of confidences, bins of each class -> counters
//
// It takes tiles as the kernels of statistics do (pixel_state.cuh), in all of their layouts and
// resolutions; what labels say it has from the marks.
//
// Bins of each class would be an atomic addition for every element. But a pixel has few
// probabilities that are not in the first bin: of B bins, at most B. So a thread adds up by itself
// what is in the first one, and how many those are is known at the end, from what is in the others,
// which go through a queue.
#pragma once

#include "pixel_state.cuh"
#include "tally_counters.cuh"

namespace jml::cuda {

JML_DEVICE unsigned to_units(float number) { return __float2uint_rn(number); }  // 0 for NaN
JML_DEVICE unsigned to_units(double number) {
  return number > 0 ? unsigned(__double2ll_rn(number)) : 0u;
}

template <class C>
struct Tally : PixelState<C> {
  using Base = PixelState<C>;
  using F = typename C::F;
  using Base::each_class, Base::each_pixel, Base::exchange, Base::inverse_exp_sum, Base::pass,
      Base::pass_sums, Base::range, Base::team, Base::tile, Base::z_max;
  static constexpr int K = C::K, V = C::V;
  static constexpr int kNone = 1 << 28;  // no class

  const TallyArguments& args;
  const Pairs pairs;
  const Bins calibration, classwise;  // calibration: [2][bins], of all pixels, at boundaries
  unsigned own_pixels = 0;            // a bit for each v that this warp counts for all of them
  unsigned counted = 0;               // pixels, by the warp
  unsigned first_bins[K] = {};        // of the thread's classes: the sum of what is not apart
  Queue apart;                        // what is

  uint32_t mark[V];
  int prediction[V];
  F units[V];  // of e^0: kProbabilityUnits / exp_sum, and 0 for a pixel that does not count

  JML_DEVICE explicit Tally(const TallyArguments& args)
      : Base(args),
        args(args),
        pairs{args.has_matrix ? counters(args, 0) : nullptr,
              args.has_class_counts ? counters(args, 1) : nullptr, args, range.image},
        calibration{args.has_calibration_bins ? counters(args, 2) : nullptr,
                    args.outputs.calibration, 2 * args.bins},
        classwise{args.has_classwise_bins ? counters(args, 3) : nullptr, args.outputs.classwise,
                  args.classes * args.bins},
        apart{reinterpret_cast<Queue::Element*>(Base::free_memory() + team.warp * Queue::kBytes)} {
    for (int v = team.warp; v < V; v += team.warps) own_pixels |= 1u << v;
    const int64_t count = counter_bytes(args, 4) / int64_t(sizeof(unsigned));
    unsigned* const all = counters(args, 0);
    for (int64_t i = team.rank(); i < count; i += team.threads()) all[i] = 0;
    if constexpr (C::kHasBox) {
      if (team.rank() == 0) Base::box->take_image(args);
    }
    team.sync();
  }

  // Bytes of the first few counters of a block: what it is that some of them follow.
  JML_MATH static int64_t counter_bytes(const TallyArguments& args, int count) {
    int64_t bytes = 0;
    if (count > 0 && args.has_matrix) bytes += Pairs::matrix_bytes(args.classes);
    if (count > 1 && args.has_class_counts) bytes += Pairs::class_bytes(args.classes);
    if (count > 2 && args.has_calibration_bins) bytes += Bins::bytes(2 * args.bins);
    if (count > 3 && args.has_classwise_bins) bytes += Bins::bytes(args.classes * args.bins);
    return bytes;
  }
  // The queues of warps come first: their elements are aligned.
  JML_MATH static int64_t queue_bytes(const TallyArguments& args, int warps) {
    return args.classwise ? warps * Queue::kBytes : 0;
  }
  JML_DEVICE unsigned* counters(const TallyArguments& args, int which) const {
    return reinterpret_cast<unsigned*>(Base::free_memory() + queue_bytes(args, team.warps) +
                                       counter_bytes(args, which));
  }
  static int64_t shared_bytes(const TallyArguments& args, int warps) {
    return Base::shared_bytes(warps, args.staged_bytes) + queue_bytes(args, warps) +
           counter_bytes(args, 4);
  }

  JML_DEVICE void run() {
    for (int step = 0; Base::enter(step); ++step) {
      read_marks();
      const auto classwise_pass = pass(
          args.classwise, Base::kNothing, [&] { add_classes(); }, Base::kNothing);
      Base::go_through(prediction_pass(), exponentials_pass(), classwise_pass);
      if (!C::kGeneral && step % args.tiles_of_first_bins == args.tiles_of_first_bins - 1)
        publish_first_bins();
    }
    publish();
  }

 private:
  // ---- marks ----
  JML_DEVICE void read_marks() {
    each_pixel([&](int v) {
      const int64_t pixel = pixel_of<C>(args, range, v, team.lane);
      mark[v] = pixel < args.pixels ? args.marks.load(range.image * args.pixels + pixel) : 0;
    });
  }
  JML_DEVICE int marked_class(int v) const { return int(mark[v] >> Marks::kFlags); }
  JML_DEVICE bool counts(int v) const {
    return (mark[v] & Marks::kCounts) && marked_class(v) < int(args.classes);
  }

  // ---- the prediction ----
  // Finds the largest logit and the first class that has it. NaN is larger than all numbers.
  JML_DEVICE auto prediction_pass() {
    const auto begin = [this] {
      each_pixel([&](int v) {
        z_max[v] = F(-INFINITY);
        prediction[v] = kNone;
      });
    };
    const auto chunk = [this] {
      int found[V];
      each_pixel([&](int v) { found[v] = kNone; });
      each_class([&](int k) {
        each_pixel([&](int v) {
          const F z = tile[k][v];
          const bool is_larger = !(z <= z_max[v]) && z_max[v] == z_max[v];
          z_max[v] = is_larger ? z : z_max[v];
          found[v] = is_larger ? k : found[v];
        });
      });
      each_pixel([&](int v) {
        prediction[v] = found[v] == kNone ? prediction[v] : range.first_class + found[v];
      });
    };
    const auto end = [this] {
      if (team.warps > 1) {
        F own[V];
        each_pixel([&](int v) { pass_sums[0][v] = own[v] = z_max[v]; });
        exchange.template over_warps<Largest, 1>(team, pass_sums);
        each_pixel([&](int v) {
          z_max[v] = pass_sums[0][v];
          const bool has_it = own[v] == z_max[v] || own[v] != own[v];
          pass_sums[0][v] = F(has_it ? prediction[v] : kNone);
        });
        exchange.template over_warps<Least, 1>(team, pass_sums);
        each_pixel([&](int v) { prediction[v] = int(pass_sums[0][v]); });
      }
      // None is larger than -inf where all are.
      each_pixel([&](int v) { prediction[v] = prediction[v] == kNone ? 0 : prediction[v]; });
    };
    return pass(true, begin, chunk, end);
  }

  // ---- probabilities ----
  // Finds the sums of exponentials, which fast kernels keep, and then counts what there is once for
  // each pixel.
  JML_DEVICE auto exponentials_pass() {
    const auto begin = [this] { each_pixel([&](int v) { pass_sums[0][v] = 0; }); };
    const auto chunk = [this] {
      each_class([&](int k) {
        each_pixel([&](int v) {
          const F e = exp_fast(tile[k][v] - z_max[v]);
          pass_sums[0][v] += e;
          if constexpr (!C::kGeneral) tile[k][v] = e;
        });
      });
    };
    const auto end = [this] {
      exchange.template over_warps<Add, 1>(team, pass_sums);
      each_pixel([&](int v) {
        units[v] = counts(v) ? F(kProbabilityUnits) * reciprocal(pass_sums[0][v]) : F(0);
      });
      each_pixel([&](int v) {
        if (own_pixels >> v & 1) count_pixel(v);
      });
    };
    return pass(true, begin, chunk, end);
  }

  // The bin of a probability, which is no NaN.
  JML_DEVICE int bin_of(F of_units) const {
    const F p = of_units * F(1.0 / double(kProbabilityUnits));
    const int bin = int(p * F(args.bins));
    return bin < args.bins ? bin : args.bins - 1;
  }

  // ---- once for each pixel ----
  JML_DEVICE void count_pixel(int v) {
    const bool is_counted = counts(v), is_wrong = (mark[v] & Marks::kCounts) && !is_counted;
    const unsigned wrong = __ballot_sync(kAllLanes, is_wrong);
    if (wrong && team.lane == 0) atomicAdd(args.outputs.wrong, Count(__popc(wrong)));
    const int label = marked_class(v);
    const bool is_hit = label == prediction[v], at_boundary = mark[v] & Marks::kAtBoundary;
    const unsigned who = __ballot_sync(kAllLanes, is_counted);
    counted += unsigned(__popc(who));
    if (is_counted) {
      const Group group = Group::of(who, Count(label) << 32 | unsigned(prediction[v]));
      if (group.is_led_by(team.lane)) pairs.add(label, prediction[v], group.size());
    }
    if (args.calibration) add_confidence(v, who, is_hit, 0);
    if (args.has_boundaries) {
      const bool is_labelled = is_counted && at_boundary;
      const unsigned labelled = __ballot_sync(kAllLanes, is_labelled);
      if (labelled && args.calibration) add_confidence(v, labelled, is_hit, args.bins);
      if (is_labelled) {
        const Group group = Group::of(labelled, label);
        if (group.is_led_by(team.lane))
          atomicAdd(of_image(kBoundaryLabelled) + label, Count{group.size()});
      }
      write_prediction(v, is_labelled && is_hit);
    }
  }
  JML_DEVICE Count* of_image(ImageRow row) const {
    return args.outputs.of_image(range.image, row, args.classes);
  }

  // The confidence is e^0 / exp_sum.
  JML_DEVICE void add_confidence(int v, unsigned who, bool is_hit, int first_bin) {
    if (!(who >> team.lane & 1)) return;
    const F confidence = units[v] > 0 ? units[v] : F(0);  // 0 for NaN
    const int bin = bin_of(confidence);
    const Group group = Group::of(who, bin);
    const unsigned correct = group.count(is_hit);
    const Count sum = group.sum(to_units(confidence));
    if (group.is_led_by(team.lane))
      calibration.add(first_bin + bin, int(group.size()), int(correct), sum);
  }

  // The prediction in the mark's place; windows see it where a pixel is not ignored.
  JML_DEVICE void write_prediction(int v, bool is_hit_at_boundary) {
    const int64_t pixel = pixel_of<C>(args, range, v, team.lane);
    if (pixel >= args.pixels) return;
    const int ignored = int(args.classes) + 1;
    const int shown = marked_class(v) == ignored ? ignored : prediction[v];
    args.marks.store(range.image * args.pixels + pixel,
                     uint32_t(shown) << Marks::kFlags | (counts(v) ? Marks::kCounts : 0u) |
                         (is_hit_at_boundary ? Marks::kAtBoundary : 0u));
  }

  // ---- once for each class and pixel ----
  JML_DEVICE void add_classes() {
    constexpr int kClassesAtATime = int(Queue::kMostLeft) / (V * kLanes);
    const F apart_from = F(args.apart_from);
    each_class([&](int k) {
      F of_pixels[V];
      bool any_apart = false;
      each_pixel([&](int v) {
        const F e = C::kGeneral ? exp_fast(tile[k][v] - z_max[v]) : tile[k][v];
        of_pixels[v] = e * units[v];
        const bool is_apart = of_pixels[v] >= apart_from;
        any_apart |= is_apart;
        first_bins[k] += is_apart ? 0u : to_units(of_pixels[v]);
      });
      if (__any_sync(kAllLanes, any_apart))
        each_pixel([&](int v) { put_apart(range.first_class + k, v, of_pixels[v]); });
      if (k % kClassesAtATime == kClassesAtATime - 1 && apart.size > Queue::kMostLeft)
        apart.empty(classwise, args.bins, team.lane);
    });
    if (apart.size > Queue::kMostLeft) apart.empty(classwise, args.bins, team.lane);
    if constexpr (C::kGeneral) publish_first_bins();  // another chunk may come
  }

  JML_DEVICE void put_apart(int c, int v, F of_units) {
    const unsigned who = __ballot_sync(kAllLanes, of_units >= F(args.apart_from));
    if (!who) return;
    const int bin = bin_of(of_units);
    const unsigned about = (to_units(of_units) - 1) | (bin ? 0u : Queue::kInFirstBin) |
                           (marked_class(v) == c ? Queue::kIsLabel : 0u);
    apart.put(who, team.lane, {unsigned(c * args.bins + bin), about});
  }

  // What threads have added up of their classes goes to these bins, over lanes.
  JML_DEVICE void publish_first_bins() {
    Count sums[K];
#pragma unroll
    for (int k = 0; k < K; ++k) {
      sums[k] = first_bins[k];
      first_bins[k] = 0;
    }
    scatter_over_lanes<Add, K>(sums, team.lane);
    const int k = scattered_to<K>(team.lane);
    if (k >= 0 && k < range.classes)
      classwise.add((int64_t{range.first_class} + k) * args.bins, 0, 0, sums[0]);
  }

  // ---- the end of a block ----
  JML_DEVICE void publish() {
    if (args.classwise) {
      if constexpr (!C::kGeneral) publish_first_bins();
      apart.empty(classwise, args.bins, team.lane);
      // Every pixel that counts is in the first bin of each class, before others are taken off.
      if (counted)
        for (int64_t c = team.lane; c < args.classes; c += kLanes)
          atomicAdd(args.outputs.classwise + c * args.bins * kBinColumns + kBinPixels,
                    Count{counted});
    }
    team.sync();
    pairs.publish(team);
    calibration.publish(team);
    classwise.publish(team);
  }
};

template <class C>
__global__ void __launch_bounds__(C::kMaxThreads, C::kMinBlocks)
    tally_kernel(const __grid_constant__ TallyArguments args) {
  Tally<C>(args).run();
}

}  // namespace jml::cuda
