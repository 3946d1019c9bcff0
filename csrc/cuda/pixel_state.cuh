// What a thread knows of its part of a tile, K classes x V pixels, and of these pixels over all
// classes. Forward and backward both begin with this.
//
//     codes of the pixels -> tile of logits -> largest logit -> sums of exponentials -> state
//
// Fast kernels hold all classes in registers and read the tile once. General kernels take any
// number of classes, in chunks, and read a chunk again for each pass over the classes; what the
// first pass has read is still in the cache.
//
// The state of a pixel, with z its logits over the classes c, and w_c the class weights of a
// cross-entropy:
//
//     name                        shape   meaning
//     tile                        [K][V]  z, and in fast kernels then e^(z - z_max), with 0 at the
//                                         label, and then p; in the backward at last the gradient
//     dense_tile                  [K][V]  dense target y; of a teacher its logits, and in fast
//                                         kernels then y. An element that is ignored has the target
//                                         -0, and one that is no probability NaN
//     code                        [V]     what label and mask say (labels.cuh)
//     label_in_chunk              [V]     k of the label's class; outside [0, K) for other classes
//     z_max                       [V]     largest logit
//     label_gap                   [V]     z_max - z at the label
//     exp_sum_others              [V]     sum of e^(z - z_max) over the classes but the label
//     inverse_exp_sum             [V]     1 / sum of e^(z - z_max) over all classes
//     log_exp_sum                 [V]     log of that sum
//     p                                   probability, e^(z - z_max) inverse_exp_sum of a softmax
//     p_label, p_not_label        [V]     p at the label; 1 - p_label, not by subtraction
//     target_at_label,            [V]     what the (smoothed) label is at its class, and at the
//     target_elsewhere                    others
//     label_deficit               [V]     1 - target_at_label
//     gap                                 y - p
//     weighted_gap                [V]     forward of smoothed labels: sum of w_c (z_max - z_c)
//                                         over the classes but the label
//     gradient_exp_sum            [V]     backward of labels alone: sum of g_c e^(z_c - z_max)
//                                         over the classes but the label
//     teacher_z_max,              [V]     the same of a teacher's logits
//     teacher_inverse_exp_sum
//     tempered_exp_sum_minus_1    [V]     sum of e^((z - z_max) student_scale), less 1, taken
//                                         without cancellation
//     dense_cross_entropy,                summed over the thread's pixels: the cross-entropy of the
//     teacher_entropy                     dense target, and the teacher's own entropy
#pragma once

#include "labels.cuh"
#include "upsampling.cuh"

namespace jml::cuda {

// What a kernel is compiled for.
//     kLabels, kDense   the targets that there may be
//     kHard             labels without smoothing, and no column but those that add one number for
//                       each element
//     kGeneral          any activation, number of classes and temperature, logits of any resolution
//     kUpsample         logits of lower resolution
//     K, V              classes x pixels of a thread's part of a tile
//     kMaxWarps         how many warps share out the classes of a tile at most
//     kWarpsAtATime     how many warps live on a multiprocessor at a time: the compiler finds room
//                       for them among its 65536 registers
template <typename F_, Activation kActivation_, bool kLabels_, bool kHard_, bool kDense_,
          bool kGeneral_, bool kUpsample_, int K_, int V_, int kMaxWarps_, int kWarpsAtATime_>
struct Config {
  using F = F_;
  static constexpr Activation kActivation = kActivation_;
  static constexpr bool kLabels = kLabels_, kHard = kHard_, kDense = kDense_,
                        kGeneral = kGeneral_, kUpsample = kUpsample_;
  // Whether a block goes through boxes of pixels (upsampling.cuh), and tensors of the full size are
  // read number by number, whatever their layout.
  static constexpr bool kHasBox = kGeneral || kUpsample, kOnlyStrided = kHasBox;
  static constexpr bool kSoftmax = kActivation == Activation::softmax;
  static constexpr int K = K_, V = V_, kMaxThreads = kMaxWarps_ * kLanes, kBinLanes = kLanes;
  static constexpr int kMinBlocks = kMaxWarps_ < kWarpsAtATime_ ? kWarpsAtATime_ / kMaxWarps_ : 1;
  static_assert(K <= kLanes, "a lane takes the sums of one class");
};

// log(1 + u) for u >= 0.
JML_DEVICE float log1p_of(float u) { return log1pf(u); }
JML_DEVICE double log1p_of(double u) { return log1p(u); }

// p times -log of something. A class that is ruled out, and has p = 0, adds 0 and not NaN.
template <typename F>
JML_DEVICE F weighted_negative_log(F p, F negative_log) {
  return p == 0 && negative_log == F(INFINITY) ? F(0) : p * negative_log;
}

template <class C>
struct PixelState {
  using F = typename C::F;
  static constexpr int K = C::K, V = C::V;
  static constexpr int kSources = C::kDense ? 2 : 1;  // tensors of logits

  const Arguments& args;
  const Team team;
  using PixelExchange = Exchange<F, V, C::kDense ? 4 : 3>;
  PixelExchange exchange;
  int* codes;  // of two tiles: this step's and the last one's, which some warp may still read
  CodeRange* columns;  // [kColumns<C>]
  unsigned char* staging;

  // The box that the block goes through, and with upsample where a tile's pixels lie among those of
  // the logits and of a teacher, of two tiles as well.
  using Places = TilePlaces<F, V * kLanes>;
  Box* box;
  Places* places;
  const Places* tile_places;  // of this tile, the teacher's behind it

  const F smoothed_target_elsewhere, smoothed_label_deficit;  // where labels are smoothed

  TileRange range;
  F tile[K][V];
  F dense_tile[C::kDense ? K : 1][V];
  int label_in_chunk[V];
  int code[V];
  F z_max[V], label_gap[V], exp_sum_others[V], inverse_exp_sum[V], log_exp_sum[V];
  F p_label[V], p_not_label[V];
  F weighted_gap[V], gradient_exp_sum[V];
  F teacher_z_max[V], teacher_inverse_exp_sum[V];
  F tempered_exp_sum_minus_1[V], dense_cross_entropy, teacher_entropy;

  // What a pass adds up over classes.
  static constexpr int kSumsOfPass = 4;
  F pass_sums[kSumsOfPass][V], dense_pass_sums[kSumsOfPass][V];
  JML_DEVICE void clear_sums() {
    each_pixel([&](int v) {
#pragma unroll
      for (int i = 0; i < kSumsOfPass; ++i) pass_sums[i][v] = dense_pass_sums[i][v] = 0;
    });
  }

  // The shared memory of a block in bytes, without what forward or backward need themselves.
  static constexpr int64_t codes_bytes() {
    return 2 * V * kLanes * int64_t(sizeof(int)) + kColumns<C> * int64_t(sizeof(CodeRange)) +
           (C::kHasBox ? int64_t(sizeof(Box)) + 2 * kSources * int64_t(sizeof(Places)) : 0);
  }
  static int64_t shared_bytes(int warps, int staged_bytes) {
    return V * int64_t{staged_bytes} +
           PixelExchange::size(warps) * int64_t(sizeof(F)) + codes_bytes();
  }

  JML_DEVICE explicit PixelState(const Arguments& args)
      : args(args),
        exchange(reinterpret_cast<F*>(shared_memory() + V * args.staged_bytes),
                 team),
        codes(reinterpret_cast<int*>(exchange.of_warps + PixelExchange::size(team.warps))),
        columns(reinterpret_cast<CodeRange*>(codes + 2 * V * kLanes)),
        staging(shared_memory()),
        box(reinterpret_cast<Box*>(columns + kColumns<C>)),
        places(reinterpret_cast<Places*>(box + 1)),
        smoothed_target_elsewhere(F(args.target_elsewhere)),
        smoothed_label_deficit(F(args.label_deficit)) {
    range.image = int(blockIdx.x) / args.parts;
  }
  // The first byte of shared memory behind what the state takes.
  JML_DEVICE unsigned char* free_memory() const {
    return reinterpret_cast<unsigned char*>(codes) + codes_bytes();
  }

  // Fast kernels that are compiled for it always have it.
  JML_DEVICE bool upsamples() const {
    return C::kUpsample || (C::kGeneral && args.upsample);
  }

  // ---- targets ----
  // Fast kernels have all targets that they are compiled for.
  JML_DEVICE bool has_labels() const { return C::kLabels && (!C::kGeneral || args.has_labels()); }
  JML_DEVICE bool has_dense() const { return C::kDense && (!C::kGeneral || args.has_dense()); }

  // ---- pixels ----
  JML_DEVICE bool valid(int v) const { return code[v] & Code::kValid; }
  JML_DEVICE bool smoothed(int v) const { return code[v] & Code::kSmoothed; }
  JML_DEVICE bool is_label(int k, int v) const { return C::kLabels && label_in_chunk[v] == k; }
  // The class of the label, or -1.
  JML_DEVICE int label_class(int v) const { return (code[v] & Code::kClass) - 1; }
  // NaN where the pixel is wrong, and 0 elsewhere: added to a pixel's numbers it makes the loss NaN.
  JML_DEVICE F poison(int v) const { return code[v] & Code::kWrong ? F(NAN) : F(0); }
  // Fast kernels: whether the thread has elements that are ignored one by one.
  JML_DEVICE bool has_ignored() const {
    int flags = 0;
    each_pixel([&](int v) { flags |= code[v]; });
    return C::kDense && (flags & Code::kHasIgnored);
  }
  // Whether an element counts nowhere though its pixel may count. Fast kernels ask only in threads
  // that have some such elements.
  JML_DEVICE bool is_ignored(int k, int v) const {
    if constexpr (!C::kDense)
      return false;
    else
      return (!C::kGeneral || args.ignores_elements()) && is_ignored_target(dense_tile[k][v]);
  }

  // ---- target of labels ----
  JML_DEVICE F target_elsewhere(int v) const {
    return !C::kHard && smoothed(v) ? smoothed_target_elsewhere : F(0);
  }
  JML_DEVICE F label_deficit(int v) const {
    return !C::kHard && smoothed(v) ? smoothed_label_deficit : F(0);
  }
  JML_DEVICE F target_at_label(int v) const { return 1 - label_deficit(v); }
  JML_DEVICE F label_target(int k, int v) const {
    return is_label(k, v) ? target_at_label(v) : valid(v) ? target_elsewhere(v) : F(0);
  }

  // ---- loops ----
  // These call body(k), body(v), body(k, v) for the classes and pixels of the thread.
  template <typename Body>
  JML_DEVICE void each_class(Body body) const {
#pragma unroll
    for (int k = 0; k < K; ++k)
      if (k < range.classes) body(k);
  }
  template <typename Body>
  JML_DEVICE static void each_pixel(Body body) {
#pragma unroll
    for (int v = 0; v < V; ++v) body(v);
  }
  template <typename Body>
  JML_DEVICE void each(Body body) const {
    each_class([&](int k) { each_pixel([&](int v) { body(k, v); }); });
  }
  // A pass over the classes of a tile: begin() comes first, then chunk() for each chunk of classes,
  // once its tile is read, and end() at last.
  template <typename Begin, typename Chunk, typename End>
  struct Pass {
    bool needed;
    Begin begin;
    Chunk chunk;
    End end;
  };
  template <typename Begin, typename Chunk, typename End>
  JML_DEVICE static Pass<Begin, Chunk, End> pass(bool needed, Begin begin, Chunk chunk, End end) {
    return {needed, begin, chunk, end};
  }

  // Goes through the passes of a tile, all of them in one call. In general kernels they take turns in
  // a loop: what reads a chunk is then there once, whatever the number of passes, and it is by far the
  // largest part of such a kernel.
  template <typename... Passes>
  JML_DEVICE void go_through(Passes... passes) {
    if constexpr (C::kGeneral) {
      bool is_read = false;
#pragma unroll 1
      for (int turn = 0; turn < int(sizeof...(Passes)); ++turn) {
        const auto with_this = [&](auto call) {
          int i = 0;
          ((i++ == turn ? call(passes) : void()), ...);
        };
        bool needed = false;
        with_this([&](auto& pass) { needed = pass.needed; });
        if (!needed) continue;
        with_this([](auto& pass) { pass.begin(); });
#pragma unroll 1
        for (int chunk = 0; chunk < args.chunks; ++chunk) {
          if (args.chunks > 1 || !is_read) read(chunk);
          is_read = true;
          with_this([](auto& pass) { pass.chunk(); });
        }
        with_this([](auto& pass) { pass.end(); });
      }
    } else {
      const auto go = [](auto& pass) {
        if (!pass.needed) return;
        pass.begin();
        pass.chunk();
        pass.end();
      };
      (go(passes), ...);
    }
  }
  static constexpr auto kNothing = [] {};

  // ---- reading ----
  // Finds the tile of a step of the block, which fast kernels read as well; false where there is none
  // left.
  JML_DEVICE bool enter(int step) {
    if constexpr (C::kHasBox) {
      if (!enter_box(step)) return false;
    } else {
      range.first_pixel = (int64_t{step} * args.parts + int(blockIdx.x) % args.parts) * V * kLanes;
      if (range.first_pixel >= args.pixels) return false;
    }
    if constexpr (kReadsFirst) read_logits(0);
    int* const tile_codes = codes + step % 2 * V * kLanes;
    write_codes<C>(args, range, team, tile_codes, columns);
    team.sync();
    each_pixel([&](int v) { code[v] = tile_codes[v * kLanes + team.lane]; });
    if constexpr (kReadsFirst)
      read_rest();
    else if constexpr (!C::kGeneral)
      read(0);
    return true;
  }

  // Finds the tile within the box, and its places.
  JML_DEVICE bool enter_box(int step) {
    Position first;
    range.pixels = box->find(step, first);
    if (range.pixels == 0) return false;
    range.first_pixel =
        (first.depth * args.spatial[1] + first.row) * args.spatial[2] + first.column;
    if (!upsamples()) return true;
    Places* const of_step = places + step % 2 * kSources;
    of_step[0].write(args.logits, args.logits_axes, first, range.pixels, team);
    if (C::kDense && args.teacher)
      of_step[kSources - 1].write(args.dense, args.dense_axes, first, range.pixels, team);
    tile_places = of_step;
    return true;
  }

  // Rows in shared memory, one for each of the warp's classes.
  JML_DEVICE F* rows() const {
    return reinterpret_cast<F*>(staging) +
           team.warp * args.classes_per_warp * TileRows<C>::kPitch;
  }

  // Fills a tile from a tensor of the full size, or of lower resolution.
  template <bool kLogits, int n>
  JML_DEVICE void fill(F (&to)[n][V], const TensorView& view, const Access& access,
                       bool is_interpolated, const Axes& axes, int source) {
    if constexpr (C::kHasBox) {
      if (is_interpolated) {
        fill_interpolated<C, kLogits>(to, view, axes, tile_places[source], range, team, rows());
        return;
      }
    }
    if constexpr (!C::kUpsample || !kLogits)
      fill_tile<C, kLogits>(to, args, view, access, range, team, staging);
  }

  // The logits of hard labels are under way while their codes are made, which wait for labels. The
  // codes of smoothed labels are more work, and would find too few registers left. Interpolation
  // needs the barrier that comes with the codes.
  static constexpr bool kReadsFirst = C::kHard && !C::kHasBox;
  JML_DEVICE void read(int chunk) {
    read_logits(chunk);
    read_rest();
  }
  JML_DEVICE void read_logits(int chunk) {
    range.first_class = (chunk * team.warps + team.warp) * args.classes_per_warp;
    const int left = int(args.classes) - range.first_class;
    range.classes = left < 0 ? 0 : left < args.classes_per_warp ? left : args.classes_per_warp;
    fill<true>(tile, args.logits, args.logits_access, upsamples(), args.logits_axes, 0);
  }
  // The dense target, and what the codes say of the tile.
  JML_DEVICE void read_rest() {
    each_pixel([&](int v) { label_in_chunk[v] = label_class(v) - range.first_class; });
    if constexpr (C::kDense) {
      if (has_dense())
        read_dense();
      else
        each([&](int k, int v) { dense_tile[k][v] = 0; });
    }
    if constexpr (C::kActivation == Activation::none)
      each([&](int k, int v) { tile[k][v] = is_probability(tile[k][v]) ? tile[k][v] : F(NAN); });
    bool all_count = true;
    each_pixel([&](int v) { all_count &= valid(v); });
    if (__all_sync(kAllLanes, all_count)) return;
    // A pixel that does not count may hold anything.
    each([&](int k, int v) {
      tile[k][v] = valid(v) ? tile[k][v] : F(0);
      if constexpr (C::kDense) dense_tile[k][v] = valid(v) ? dense_tile[k][v] : F(0);
    });
  }

  JML_DEVICE void read_dense() {
    if (C::kGeneral && args.integer_dense()) {
      read_bits();
      return;
    }
    fill<false>(dense_tile, args.dense, args.dense_access, upsamples() && args.teacher,
                args.dense_axes, kSources - 1);
    if (C::kGeneral && args.holds_probabilities())
      each([&](int k, int v) { dense_tile[k][v] = checked_target(dense_tile[k][v]); });
    if (args.teacher) {
      const F scale = F(args.teacher_scale);
      each([&](int k, int v) { dense_tile[k][v] *= scale; });
    }
  }

  // A probability as a target: -0 where it is ignored, and NaN where it is none.
  JML_DEVICE F checked_target(F value) const {
    if (args.ignores_elements() && value == F(args.ignored_number)) return F(-0.0);
    return is_probability(value) ? value + F(0) : F(NAN);  // -0 + 0 is 0
  }

  // Reads integers 0 and 1 of each class as targets. Those to ignore become -0, and others NaN.
  JML_DEVICE void read_bits() {
    const F at_zero = smoothed_target_elsewhere, at_one = 1 - smoothed_label_deficit;
    int64_t offsets[V];
    each_pixel([&](int v) {
      offsets[v] = strided_offset<C>(args, args.dense, args.dense_access, range, v, team.lane);
    });
    visit_integer(args.dense, [&](const auto* bits) {
      each([&](int k, int v) {
        const bool inside = pixel_of<C>(args, range, v, team.lane) < args.pixels;
        const int64_t bit =
            inside ? label_number(bits[offsets[v] + k * args.dense.class_stride]) : 0;
        const F target = bit == 1 ? at_one : bit == 0 ? at_zero : F(NAN);
        const bool ignored = args.ignores_elements() && bit == args.ignore_index;
        dense_tile[C::kDense ? k : 0][v] = ignored ? F(-0.0) : target;
      });
    });
  }

  // ---- elements that are ignored, or wrong ----
  // What a thread knows of the dense target of a pixel, so that the largest of all threads' tells
  // of the pixel: whether an element is wrong, else whether one counts, else whether all of them are
  // ignored.
  static constexpr F kNoElements = F(-INFINITY), kAllIgnored = F(-1), kCounts = F(0),
                     kSomeWrong = F(INFINITY);

  JML_DEVICE static F element_state(F target, bool ignored) {
    return ignored ? kAllIgnored : target != target ? kSomeWrong : kCounts;
  }

  // Fast kernels: looks through the thread's dense target of probabilities. Mostly all of these are
  // some, which shows in the largest of them as bits: negative numbers and NaN have larger bits.
  JML_DEVICE void check_targets(F (&states)[V]) {
    uint32_t largest_bits = 0;
#pragma unroll
    for (int k = 0; k < K; ++k)
      each_pixel([&](int v) {
        const uint32_t bits = bit_cast<uint32_t>(float(dense_tile[C::kDense ? k : 0][v]));
        largest_bits = bits > largest_bits ? bits : largest_bits;
      });
    each_pixel([&](int v) { states[v] = range.classes > 0 ? kCounts : kNoElements; });
    if (largest_bits <= bit_cast<uint32_t>(float(kSurelyProbability))) return;
    each_pixel([&](int v) { states[v] = kNoElements; });
    each([&](int k, int v) {
      F& target = dense_tile[C::kDense ? k : 0][v];
      target = checked_target(target);
      const bool ignored = is_ignored_target(target);
      if (ignored) code[v] |= Code::kHasIgnored;
      states[v] = LargestNumber::apply(states[v], element_state(target, ignored));
    });
  }

  // Takes note of what a pixel's elements are. Where all are ignored the pixel does not count, and
  // may hold anything.
  JML_DEVICE void apply_state(int v, F state) {
    if (state == kCounts) return;
    if (state == kSomeWrong) code[v] |= Code::kWrong;
    if (state != kAllIgnored) return;
    code[v] &= ~Code::kValid;
    z_max[v] = 0;
#pragma unroll
    for (int k = 0; k < K; ++k) tile[k][v] = dense_tile[C::kDense ? k : 0][v] = 0;
  }

  // ---- softmax ----
  JML_DEVICE bool label_cross_entropy_requested() const {
    return has_labels() && args.label_columns.requested(kCrossEntropy);
  }
  JML_DEVICE bool dense_cross_entropy_requested() const {
    return has_dense() && args.dense_columns.requested(kCrossEntropy);
  }
  JML_DEVICE bool teacher_entropy_requested() const {
    return C::kDense && args.teacher && args.dense_columns.requested(kTargetEntropy);
  }
  // w_c of a cross-entropy: class weights are those of the first target.
  JML_DEVICE F label_weight(int c) const { return F(args.ce_class_weights.at(c)); }
  JML_DEVICE F dense_weight(int c) const { return has_labels() ? F(1) : label_weight(c); }

  // Finds the largest logit over all classes, and a teacher's; of another dense target the state of
  // each pixel's elements.
  JML_DEVICE auto z_max_pass() {
    enum { kLogits, kDenseTarget };  // of `pass_sums`, which are maxima here
    const auto begin = [this] {
      dense_cross_entropy = teacher_entropy = 0;
      each_pixel([&](int v) { pass_sums[kLogits][v] = pass_sums[kDenseTarget][v] = F(-INFINITY); });
    };
    const auto chunk = [this] {
      each([&](int k, int v) {
        pass_sums[kLogits][v] = LargestNumber::apply(pass_sums[kLogits][v], tile[k][v]);
      });
      if constexpr (C::kDense) {
        F(&largest)[V] = pass_sums[kDenseTarget];
        if (args.teacher)
          each([&](int k, int v) {
            largest[v] = LargestNumber::apply(largest[v], dense_tile[k][v]);
          });
        else if constexpr (C::kGeneral)
          each([&](int k, int v) {
            const F state = element_state(dense_tile[k][v], is_ignored(k, v));
            largest[v] = LargestNumber::apply(largest[v], state);
          });
        else
          check_targets(largest);
      }
    };
    const auto end = [this] {
      exchange.template over_warps<LargestNumber, C::kDense ? 2 : 1>(team, pass_sums);
      each_pixel([&](int v) {
        z_max[v] = pass_sums[kLogits][v];
        teacher_z_max[v] = pass_sums[kDenseTarget][v];
        if constexpr (C::kDense) {
          if (!args.teacher) apply_state(v, pass_sums[kDenseTarget][v]);
        }
      });
    };
    return pass(true, begin, chunk, end);
  }

  // Finds the softmax of a teacher over all classes. Fast kernels keep its probabilities.
  template <bool kForward>
  JML_DEVICE auto teacher_pass() {
    // Exponentials are summed apart below the largest logit, and counted at it (log_of_exp_sum).
    enum { kExpSum, kEntropy, kExpSumBelowMax, kCountAtMax };
    const auto chunk = [this] {
      if constexpr (C::kDense) {
        const bool entropy_requested = kForward && teacher_entropy_requested();
        each([&](int k, int v) {
          const F below = dense_tile[k][v] - teacher_z_max[v], e = exp_fast(below);
          pass_sums[kExpSum][v] += e;
          if (entropy_requested) {
            pass_sums[kEntropy][v] += weighted_negative_log(e, -below);
            pass_sums[kExpSumBelowMax][v] += below == 0 ? F(0) : e;
            pass_sums[kCountAtMax][v] += below == 0 ? F(1) : F(0);
          }
          if constexpr (!C::kGeneral) dense_tile[k][v] = e;
        });
      }
    };
    const auto end = [this] {
      if constexpr (C::kDense) {
        const bool entropy_requested = kForward && teacher_entropy_requested();
        exchange.template over_warps<Add, kSumsOfPass>(team, pass_sums);
        each_pixel([&](int v) {
          teacher_inverse_exp_sum[v] = valid(v) ? reciprocal(pass_sums[kExpSum][v]) : F(0);
          if (entropy_requested && valid(v))
            teacher_entropy += pass_sums[kEntropy][v] * teacher_inverse_exp_sum[v] +
                               log_of_exp_sum(pass_sums[kExpSumBelowMax][v], pass_sums[kCountAtMax][v]);
        });
        if constexpr (!C::kGeneral)
          each([&](int k, int v) { dense_tile[k][v] *= teacher_inverse_exp_sum[v]; });
      }
    };
    return pass(C::kDense && args.teacher, [this] { clear_sums(); }, chunk, end);
  }

  // log of a sum of e^(z - z_max), from the sum below the largest logit and the number of classes
  // at it, each of which adds 1. It is log(1 + what comes beside one of these), because the
  // logarithm of the sum itself would leave nothing of a confident prediction.
  JML_DEVICE static F log_of_exp_sum(F sum_below_max, F count_at_max) {
    return log1p_of(sum_below_max + (count_at_max - 1));
  }

  // Whether the dense target's cross-entropy takes p at a temperature of its own.
  JML_DEVICE bool is_tempered() const { return C::kGeneral && args.student_scale != 1; }
  template <bool kForward>
  JML_DEVICE bool dense_sums_needed() const {
    return dense_cross_entropy_requested() && (kForward || is_tempered());
  }

  // Finds the sums of exponentials over all classes, those of cross-entropies where they are
  // requested, and in the backward of hard labels that of gradient_term(k, e), over the classes but
  // the label. Fast kernels keep the exponentials, with 0 at the label.
  template <bool kForward, typename GradientTerm>
  JML_DEVICE auto exponentials_pass(GradientTerm gradient_term) {
    enum { kExpSumOthers, kLabelGap, kWeightedGap, kSumsOfLogits };
    enum { kDenseWeightedGap, kTargetMass, kExpSumBelowMax, kCountAtMax, kSumsOfDense };
    constexpr int kGradientExpSum = kWeightedGap;  // no kernel needs both
    const auto chunk = [=] {
      const F scale = C::kGeneral ? F(args.student_scale) : F(1);
      const bool weighted_gap_needed = kForward && !C::kHard && label_cross_entropy_requested() &&
                                       args.target_elsewhere != 0;
      const bool dense_sums_needed = this->template dense_sums_needed<kForward>();
      each_class([&](int k) {
        F below[V], e[V];
        const int c = range.first_class + k;
        each_pixel([&](int v) {
          below[v] = tile[k][v] - z_max[v];
          e[v] = exp_fast(below[v]);
        });
        if (dense_sums_needed) {
          const F weight = dense_weight(c);
          each_pixel([&](int v) {
            const F mass = weight * dense_target(k, v);
            const F tempered = is_tempered() ? exp_fast(below[v] * scale) : e[v];
            dense_pass_sums[kDenseWeightedGap][v] += weighted_negative_log(mass, -below[v] * scale);
            dense_pass_sums[kTargetMass][v] += mass;
            dense_pass_sums[kExpSumBelowMax][v] += below[v] == 0 ? F(0) : tempered;
            dense_pass_sums[kCountAtMax][v] += below[v] == 0 ? F(1) : F(0);
          });
        }
        if (weighted_gap_needed) {
          const F weight = label_weight(c);
          each_pixel([&](int v) {
            if (smoothed(v) && !is_label(k, v)) pass_sums[kWeightedGap][v] -= weight * below[v];
          });
        }
        each_pixel([&](int v) {
          if constexpr (C::kLabels) {
            pass_sums[kLabelGap][v] = is_label(k, v) ? -below[v] : pass_sums[kLabelGap][v];
            e[v] = is_label(k, v) ? F(0) : e[v];
          }
          pass_sums[kExpSumOthers][v] += e[v];
          if constexpr (C::kHard && !kForward)
            pass_sums[kGradientExpSum][v] += gradient_term(k, e[v]);
          if constexpr (!C::kGeneral) tile[k][v] = e[v];
        });
      });
    };
    const auto end = [this] {
      const bool dense_sums_needed = this->template dense_sums_needed<kForward>();
      constexpr bool kNeedsTwo = C::kHard == kForward;  // no weighted gap, or no gradient
      exchange.template over_warps<Add, kNeedsTwo ? 2 : kSumsOfLogits>(team, pass_sums);
      if constexpr (C::kDense) {
        if (dense_sums_needed) exchange.template over_warps<Add, kSumsOfDense>(team, dense_pass_sums);
      }
      each_pixel([&](int v) {
        exp_sum_others[v] = pass_sums[kExpSumOthers][v];
        label_gap[v] = pass_sums[kLabelGap][v];
        if constexpr (kForward)
          weighted_gap[v] = pass_sums[kWeightedGap][v];
        else
          gradient_exp_sum[v] = pass_sums[kGradientExpSum][v];
        const bool has_label = C::kLabels && label_class(v) >= 0;
        const F e = has_label ? exp_fast(-label_gap[v]) : F(0);
        inverse_exp_sum[v] = valid(v) ? reciprocal(exp_sum_others[v] + e) + poison(v) : F(0);
        p_label[v] = e * inverse_exp_sum[v];
        p_not_label[v] = exp_sum_others[v] * inverse_exp_sum[v];
        // Where the label has the largest logit, its 1 is what log1p adds, and not taken off.
        const F exp_sum_minus_1 =
            has_label && label_gap[v] == 0 ? exp_sum_others[v] : exp_sum_others[v] - 1 + e;
        log_exp_sum[v] = log1p_of(exp_sum_minus_1);
        if (dense_sums_needed) {
          const F sum_below_max = dense_pass_sums[kExpSumBelowMax][v];
          const F count_at_max = dense_pass_sums[kCountAtMax][v];
          tempered_exp_sum_minus_1[v] = sum_below_max + (count_at_max - 1);
          const F log_sum = log_of_exp_sum(sum_below_max, count_at_max);
          if (valid(v))
            dense_cross_entropy += dense_pass_sums[kDenseWeightedGap][v] +
                                   weighted_negative_log(dense_pass_sums[kTargetMass][v], log_sum);
        }
      });
    };
    return pass(true, [this] { clear_sums(); }, chunk, end);
  }

  // p, and 1 - p, which is right only at the label where the activation is a softmax. In general
  // kernels the tile of a softmax still holds logits, in fast ones exponentials.
  JML_DEVICE F probability(int k, int v, F& p_not) const {
    if constexpr (C::kSoftmax) {
      p_not = p_not_label[v];
      if (is_label(k, v)) return p_label[v];
      return (C::kGeneral ? exp_fast(tile[k][v] - z_max[v]) : tile[k][v]) * inverse_exp_sum[v];
    } else {
      const F value = tile[k][v];
      if (!valid(v) || is_ignored(k, v)) {
        p_not = 0;
        return 0;
      }
      if constexpr (C::kActivation == Activation::sigmoid) {
        const F e = exp_fast(value > 0 ? -value : value);
        const F larger = reciprocal(F(1) + e) + poison(v);  // the larger one of p and 1 - p
        p_not = (value < 0 ? F(1) : e) * larger;
        return (value < 0 ? e : F(1)) * larger;
      } else {
        p_not = F(1) - value + poison(v);
        return value + poison(v);
      }
    }
  }

  // y of the dense target. Fast kernels hold it in the tile, once the teacher's softmax is found.
  JML_DEVICE F dense_target(int k, int v) const {
    if constexpr (!C::kDense) {
      return 0;
    } else if constexpr (!C::kGeneral) {
      return dense_tile[k][v];
    } else {
      F target = dense_tile[k][v];
      if (args.teacher && C::kSoftmax)
        target = exp_fast(target - teacher_z_max[v]) * teacher_inverse_exp_sum[v];
      else if (args.teacher && C::kActivation == Activation::sigmoid)
        target = sigmoid_of(target);
      return valid(v) ? target : F(0);
    }
  }

  JML_DEVICE static F sigmoid_of(F value) {
    const F e = exp_fast(value > 0 ? -value : value);
    return (value < 0 ? e : F(1)) * reciprocal(F(1) + e);
  }
};

}  // namespace jml::cuda
