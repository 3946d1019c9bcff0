// What a thread knows of its part of a tile, K classes x V pixels, and of these pixels over all
// classes. Forward and backward both begin with this.
//
//     codes of the pixels -> tile of logits -> largest logit -> sums of exponentials -> state
//
// With all classes in registers (fast kernels) the tile is read once. General kernels take any
// number of classes, in chunks, and read a chunk again for each look; what the first look has read
// is in cache still.
#pragma once

#include "labels.cuh"

namespace jml::cuda {

// A kernel: what it is compiled for.
//     kLabels, kDense   the targets there may be
//     kHard             labels without smoothing, and no column but those that add one number for
//                       each element
//     kGeneral          any activation, number of classes and temperature
template <typename F_, Activation kActivation_, bool kLabels_, bool kHard_, bool kDense_,
          bool kGeneral_, int K_, int V_, int kMaxWarps_>
struct Config {
  using F = F_;
  static constexpr Activation kActivation = kActivation_;
  static constexpr bool kLabels = kLabels_, kHard = kHard_, kDense = kDense_,
                        kGeneral = kGeneral_;
  static constexpr bool kSoftmax = kActivation == Activation::softmax;
  static constexpr int K = K_, V = V_, kMaxThreads = kMaxWarps_ * kLanes;
  // 12 warps for a multiprocessor: what the registers of large tiles allow, when told to.
  static constexpr int kMinBlocks = kMaxWarps_ < 12 ? 12 / kMaxWarps_ : 1;
  static_assert(K <= kLanes, "a lane takes the sums of one class");
};

// log(1 + u) for u >= 0.
JML_DEVICE float log1p_of(float u) { return log1pf(u); }
JML_DEVICE double log1p_of(double u) { return log1p(u); }

// The sum of p times a logarithm's negative; a class that is ruled out and has no share adds 0.
template <typename F>
JML_DEVICE F share_of(F p, F negative_log) {
  return p == 0 && negative_log == F(INFINITY) ? F(0) : p * negative_log;
}

template <class C>
struct Look {
  using F = typename C::F;
  static constexpr int K = C::K, V = C::V;

  const Arguments& args;
  const Team team;
  using PixelExchange = Exchange<F, V, C::kDense ? 4 : 3>;
  PixelExchange exchange;
  int* codes;             // of two tiles in turn
  unsigned char* staging;

  const F off_value, share_value;

  TileAt at;
  F z[K][V];               // logits; fast kernels: then exponentials, 0 at the label; then x
  F y[C::kDense ? K : 1][V];  // dense target; of a teacher: logits, then exponentials
  int label[V];            // its place among the warp's classes, of this chunk; outside for others
  int code[V];
  // Softmax: sums of e^(z - top) over the classes but the label; of the label, what its logit lies
  // below the top; then x and 1 - x there, and 1 / the sum over all.
  F top[V], rest[V], descent[V], own[V], miss[V], inverse[V];
  F teacher_top[V], teacher_inverse[V];
  // Over the classes that are not the label: forward, where smoothed, of w (top - z); backward of
  // hard labels, of g e^(z - top).
  F also[V];
  // Cross-entropies: log of the sum over all classes; the same of logits over the temperature, as
  // what it adds up to beside 1; summed over pixels, that of the dense target and its own entropy.
  F log_total[V], tempered_rest[V], dense_entropy, teacher_entropy;

  // Shared memory of a block, in bytes, up to what forward or backward need themselves.
  static constexpr int64_t codes_bytes() { return 2 * V * kLanes * int64_t(sizeof(int)); }
  static int64_t shared_bytes(int warps, int staged_bytes) {
    return V * int64_t{staged_bytes} +
           PixelExchange::size(warps) * int64_t(sizeof(F)) + codes_bytes();
  }

  JML_DEVICE explicit Look(const Arguments& args)
      : args(args),
        exchange(reinterpret_cast<F*>(shared_memory() + V * args.staged_bytes),
                 team),
        codes(reinterpret_cast<int*>(exchange.parts + PixelExchange::size(team.warps))),
        staging(shared_memory()),
        off_value(F(args.off)),
        share_value(F(args.share)) {
    at.image = int(blockIdx.x) / args.parts;
  }
  // The first byte that is free.
  JML_DEVICE unsigned char* rest_of_memory() const {
    return reinterpret_cast<unsigned char*>(codes + 2 * V * kLanes);
  }

  // ---- pixels ----
  JML_DEVICE bool valid(int v) const { return code[v] & Code::kValid; }
  JML_DEVICE bool smoothed(int v) const { return code[v] & Code::kSmoothed; }
  JML_DEVICE bool is_label(int k, int v) const { return C::kLabels && label[v] == k; }
  // The class of the label, or -1.
  JML_DEVICE int label_class(int v) const { return (code[v] & Code::kClass) - 1; }
  // The target of labels: on = 1 - share at the label, off elsewhere.
  JML_DEVICE F off(int v) const { return !C::kHard && smoothed(v) ? off_value : F(0); }
  JML_DEVICE F label_target(int k, int v) const {
    return is_label(k, v) ? 1 - share(v) : valid(v) ? off(v) : F(0);
  }
  JML_DEVICE F share(int v) const { return !C::kHard && smoothed(v) ? share_value : F(0); }

  // Call body(k), body(v), body(k, v) for the classes and pixels of the thread.
  template <typename Body>
  JML_DEVICE void each_class(Body body) const {
#pragma unroll
    for (int k = 0; k < K; ++k)
      if (k < at.classes) body(k);
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
  // Calls body() for each chunk of classes, with its tile read.
  template <typename Body>
  JML_DEVICE void each_chunk(Body body) {
    if constexpr (C::kGeneral) {
      for (int chunk = 0; chunk < args.chunks; ++chunk) {
        if (args.chunks > 1) read(chunk);
        body();
      }
    } else {
      body();
    }
  }

  // ---- reading ----
  // Reads the tile of a turn of the block; false where there is none left.
  JML_DEVICE bool enter(int turn) {
    at.first = (int64_t{turn} * args.parts + int(blockIdx.x) % args.parts) * V * kLanes;
    if (at.first >= args.pixels) return false;
    int* const own_codes = codes + turn % 2 * V * kLanes;
    write_codes<C::kHard, V>(args, at, team, own_codes);
    team.sync();
    each_pixel([&](int v) { code[v] = own_codes[v * kLanes + team.lane]; });
    read(0);
    return true;
  }

  JML_DEVICE void read(int chunk) {
    at.first_class = (chunk * team.warps + team.warp) * args.classes_of_warp;
    const int left = int(args.classes) - at.first_class;
    at.classes = left < 0 ? 0 : left < args.classes_of_warp ? left : args.classes_of_warp;
    each_pixel([&](int v) { label[v] = label_class(v) - at.first_class; });
    fill_tile<true, C::kGeneral>(z, args, args.logits, args.read_logits, at, team, staging);
    if constexpr (C::kDense) {
      if (args.has_dense())
        read_dense();
      else
        each([&](int k, int v) { y[k][v] = 0; });
    }
    bool all_count = true;
    each_pixel([&](int v) { all_count &= valid(v); });
    if (__all_sync(kAllLanes, all_count)) return;
    // What does not count may hold anything.
    each([&](int k, int v) {
      z[k][v] = valid(v) ? z[k][v] : F(0);
      if constexpr (C::kDense) y[k][v] = valid(v) ? y[k][v] : F(0);
    });
  }

  JML_DEVICE void read_dense() {
    if (C::kGeneral && args.integer_dense()) {
      read_bits();
      return;
    }
    fill_tile<false, C::kGeneral>(y, args, args.dense, args.read_dense, at, team, staging);
    if (args.teacher) {
      const F scale = F(args.teacher_scale);
      each([&](int k, int v) { y[k][v] *= scale; });
    }
  }

  // Integers 0 and 1 of each class: -1 where ignored, NaN for others.
  JML_DEVICE void read_bits() {
    const F off = off_value, on = 1 - share_value;
    int64_t offsets[V];
    each_pixel([&](int v) {
      offsets[v] = strided_offset<V>(args, args.dense, args.read_dense, at, v, team.lane);
    });
    visit_integer(args.dense, [&](const auto* bits) {
      each([&](int k, int v) {
        const bool there = pixel_of<V>(args, at, v, team.lane) < args.pixels;
        const int64_t bit = there ? int64_t(bits[offsets[v] + k * args.dense.class_stride])
                                  : args.ignore_index;
        const F target = bit == 1 ? on : bit == 0 ? off : F(NAN);
        y[C::kDense ? k : 0][v] = bit == args.ignore_index ? F(-1) : target;
      });
    });
  }
  JML_DEVICE bool is_ignored_bit(int k, int v) const {
    return C::kDense && args.integer_dense() && y[C::kDense ? k : 0][v] == F(-1);
  }

  // ---- softmax ----
  JML_DEVICE bool wants_label_entropy() const {
    return args.has_labels() && args.label_columns.wants(kCrossEntropy);
  }
  JML_DEVICE bool wants_dense_entropy() const {
    return C::kDense && args.has_dense() && args.dense_columns.wants(kCrossEntropy);
  }
  JML_DEVICE bool wants_teacher_entropy() const {
    return C::kDense && args.teacher && args.dense_columns.wants(kTargetEntropy);
  }
  // Of the first target's cross-entropy.
  JML_DEVICE F label_weight(int c) const { return F(args.ce_class_weights.at(c)); }
  JML_DEVICE F dense_weight(int c) const { return args.has_labels() ? F(1) : label_weight(c); }

  // Over all classes: the largest logit, also of a teacher.
  JML_DEVICE void find_tops() {
    F tops[2][V];
    each_pixel([&](int v) { tops[0][v] = tops[1][v] = F(-INFINITY); });
    each_chunk([&] {
      each([&](int k, int v) {
        tops[0][v] = LargestNumber::apply(tops[0][v], z[k][v]);
        if constexpr (C::kDense) tops[1][v] = LargestNumber::apply(tops[1][v], y[k][v]);
      });
    });
    exchange.template over_warps<LargestNumber, C::kDense ? 2 : 1>(team, tops);
    each_pixel([&](int v) {
      top[v] = tops[0][v];
      teacher_top[v] = tops[1][v];
    });
  }

  // Over all classes: the softmax of a teacher. Fast kernels keep its probabilities.
  template <bool kForward>
  JML_DEVICE void find_teacher() {
    F sums[4][V] = {};
    const bool wants_entropy = kForward && args.dense_columns.wants(kTargetEntropy);
    each_chunk([&] {
      each([&](int k, int v) {
        const F below = y[k][v] - teacher_top[v], e = exp_fast(below);
        sums[0][v] += e;
        if (wants_entropy) {
          sums[1][v] += share_of(e, -below);
          sums[2][v] += below == 0 ? F(0) : e;
          sums[3][v] += below == 0 ? F(1) : F(0);
        }
        if constexpr (!C::kGeneral) y[k][v] = e;
      });
    });
    exchange.template over_warps<Add, 4>(team, sums);
    each_pixel([&](int v) {
      teacher_inverse[v] = valid(v) ? reciprocal(sums[0][v]) : F(0);
      if (wants_entropy && valid(v))
        teacher_entropy += sums[1][v] * teacher_inverse[v] + log_of_sum(sums[2][v], sums[3][v]);
    });
    if constexpr (!C::kGeneral) each([&](int k, int v) { y[k][v] *= teacher_inverse[v]; });
  }

  // Of exponentials: of those below the largest, and how many there are of it, each 1. log(1 + ...)
  // of what is beside one of them: the logarithm of the sum itself would leave nothing of a
  // confident prediction.
  JML_DEVICE static F log_of_sum(F below_top, F tops) { return log1p_of(below_top + (tops - 1)); }

  // Over all classes: sums of exponentials, those of cross-entropies where they are wanted, and of
  // what `more(k, e)` adds for a class that is not the label. Fast kernels keep the exponentials.
  template <bool kForward, typename More>
  JML_DEVICE void add_exponentials(More more) {
    dense_entropy = teacher_entropy = 0;
    if constexpr (C::kDense) {
      if (args.teacher) find_teacher<kForward>();
    }
    F sums[3][V] = {}, crosses[4][V] = {};
    const F scale = C::kGeneral ? F(args.student_scale) : F(1);
    const bool is_tempered = C::kGeneral && args.student_scale != 1;
    const bool of_dense = wants_dense_entropy() && (kForward || is_tempered);
    const bool spreads = kForward && !C::kHard && wants_label_entropy() && args.off != 0;
    each_chunk([&] {
      each_class([&](int k) {
        F below[V], e[V];
        const int c = at.first_class + k;
        each_pixel([&](int v) {
          below[v] = z[k][v] - top[v];
          e[v] = exp_fast(below[v]);
        });
        if (of_dense) {
          const F weight = dense_weight(c);
          each_pixel([&](int v) {
            const F part = weight * dense_target(k, v);
            const F p = is_tempered ? exp_fast(below[v] * scale) : e[v];
            crosses[0][v] += share_of(part, -below[v] * scale);
            crosses[1][v] += part;
            crosses[2][v] += below[v] == 0 ? F(0) : p;
            crosses[3][v] += below[v] == 0 ? F(1) : F(0);
          });
        }
        if (spreads) {
          const F weight = label_weight(c);
          each_pixel([&](int v) {
            if (smoothed(v) && !is_label(k, v)) sums[2][v] -= weight * below[v];
          });
        }
        each_pixel([&](int v) {
          if constexpr (C::kLabels) {
            sums[1][v] = is_label(k, v) ? -below[v] : sums[1][v];
            e[v] = is_label(k, v) ? F(0) : e[v];
          }
          sums[0][v] += e[v];
          if constexpr (C::kHard && !kForward) sums[2][v] += more(k, e[v]);
          if constexpr (!C::kGeneral) z[k][v] = e[v];
        });
      });
    });
    exchange.template over_warps<Add, C::kHard && kForward ? 2 : 3>(team, sums);
    if constexpr (C::kDense) {
      if (of_dense) exchange.template over_warps<Add, 4>(team, crosses);
    }
    each_pixel([&](int v) {
      rest[v] = sums[0][v];
      descent[v] = sums[1][v];
      also[v] = sums[2][v];
      const bool has_label = C::kLabels && label_class(v) >= 0;
      const F e = has_label ? exp_fast(-descent[v]) : F(0);
      const F poison = code[v] & Code::kBad ? F(NAN) : F(0);
      inverse[v] = valid(v) ? reciprocal(rest[v] + e) + poison : F(0);
      own[v] = e * inverse[v];
      miss[v] = rest[v] * inverse[v];
      // Where the label is the largest, all others are below it.
      log_total[v] = log1p_of(has_label && descent[v] == 0 ? rest[v] : rest[v] - 1 + e);
      if (of_dense) {
        tempered_rest[v] = crosses[2][v] + (crosses[3][v] - 1);
        const F log_sum = log_of_sum(crosses[2][v], crosses[3][v]);
        if (valid(v)) dense_entropy += crosses[0][v] + share_of(crosses[1][v], log_sum);
      }
    });
  }

  // x and, right at the label of a softmax, 1 - x. Of a softmax the tile holds exponentials in fast
  // kernels, logits in general ones.
  JML_DEVICE F probability(int k, int v, F& missing) const {
    if constexpr (C::kSoftmax) {
      missing = miss[v];
      if (is_label(k, v)) return own[v];
      return (C::kGeneral ? exp_fast(z[k][v] - top[v]) : z[k][v]) * inverse[v];
    } else {
      const F value = z[k][v];
      const F poison = code[v] & Code::kBad ? F(NAN) : F(0);
      if (!valid(v) || is_ignored_bit(k, v)) {
        missing = 0;
        return 0;
      }
      if constexpr (C::kActivation == Activation::sigmoid) {
        const F e = exp_fast(value > 0 ? -value : value);
        const F part = reciprocal(F(1) + e) + poison;
        missing = (value < 0 ? F(1) : e) * part;
        return (value < 0 ? e : F(1)) * part;
      } else {
        missing = F(1) - value + poison;
        return value + poison;
      }
    }
  }

  // Fast kernels hold the target itself, once they have found the teacher's softmax.
  JML_DEVICE F dense_target(int k, int v) const {
    if constexpr (!C::kDense) {
      return 0;
    } else if constexpr (!C::kGeneral) {
      return y[k][v];
    } else {
      F target = y[k][v];
      if (args.teacher && C::kSoftmax)
        target = exp_fast(target - teacher_top[v]) * teacher_inverse[v];
      else if (args.teacher && C::kActivation == Activation::sigmoid)
        target = sigmoid_of(target);
      return valid(v) && !is_ignored_bit(k, v) ? target : F(0);
    }
  }

  JML_DEVICE static F sigmoid_of(F value) {
    const F e = exp_fast(value > 0 ? -value : value);
    return (value < 0 ? e : F(1)) * reciprocal(F(1) + e);
  }
};

}  // namespace jml::cuda
