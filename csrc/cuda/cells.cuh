// The fast way through logits of lower resolution, for a softmax and labels, hard or smoothed.
//
// Down a column of pixels, between two low rows, the logit of each class is a linear function of the
// row. So its exponentials are a geometric progression: two exponentials for each class and column,
// and one multiplication a row.
//
//     low rows   a warp reads those of its classes into shared memory, each of them once
//     codes      what the labels of some rows are, and which of them are at a boundary (cell_codes.cuh)
//     run        some rows of pixels between the same two low rows, at most kRun
//     begin      each thread has a column of 32: the exponentials of the run's first row, and the
//                factors from row to row, of each class
//     rows       one after the other: sums over the classes, then what a row adds to the thread's sums
//
// The label of a pixel is taken out of its classes, so that sums over the others lose no digits beside
// it. To ask each class whether it is the label takes as long as the rest of a row: this is done where
// the label of some lane changes from one row to the next, which is seldom.
//
// Of a thread for an element it takes, with 19 classes, a ratio of 4, and 32 x 19 x 512 x 512 elements,
// 25 instructions in the forward and 53 in the backward, as the model of the machine code counts them
// (benchmarks/sass). In the source these are
//     a row             3 in the forward: the sum over classes, the sum of p, the progression; and 7 in
//                       the backward, with the two sums of gradients by the low rows above and below
//     a pixel           some 60: its label, the softmax there
//     smoothing         another 3 in the forward and 6 in the backward in rows of a warp with a smoothed
//                       pixel, which are half of the rows where boundaries are; and some 80 a pixel
//                       for the windows of 3 x 3: with all that 33 and 59
//     low rows, begin   some 25 for each class and column, of which a ratio of 4 makes a quarter
//     labels change     some 120 for each row of a warp where one does
//     the way back      some 12 for each class and column, once for a low row (cells_backward.cuh)
// and what patches compute twice. Tile by tile (upsampling.cuh) it is 57 and 216 of hard labels. An H200
// takes 0.41 times as long as it took for that, and 0.21 times as long as for PyTorch's interpolation
// before our loss; 0.08 with a ratio of 8, and with 150 classes 0.24 and 0.08 (docs/performance.md). Of
// smoothed labels no GPU has run these kernels yet; the model has them take 1.35 times as long as hard
// ones, which would be 0.25 times as long as interpolation and loss.
//
// Exponentials are those of the logits less a number that a strip of columns has in common, so that
// none overflows or underflows where the logits between two low rows lie within kRange. Where they do
// not, as infinite ones, the rows are taken one by one: then the largest logit of each pixel is taken
// off, and every exponential is one for itself.
//
// Volumes, images of more than 2^31 pixels, ratios above 10 (40 up to 20 classes), windows of more than
// 17 pixels, dense targets and other activations take the kernels that go tile by tile.
#pragma once

#include "cell_codes.cuh"

namespace jml::cuda {

// The exponentials of a strip lie from e^-kBelow, 2^-115, to e^(kRange - kBelow), 2^87: sums of such
// numbers are as exact as any.
constexpr float kRange = 140, kBelow = 80;
// A logit for classes that there are not: its exponential is 0, and the factor from row to row 1.
constexpr float kNoLogit = -3e38f;

template <class C>
struct Cells : CellCodes<C> {
  using Base = CellCodes<C>;
  using F = float;
  using Base::args, Base::class_warp, Base::class_warps, Base::column,
      Base::has_column, Base::label_of, Base::poison, Base::range, Base::strip, Base::sync_classes,
      Base::team, Base::valid;
  static constexpr int K = C::K;

  // The low columns on both sides of the thread's column, counted from the strip's first one, and the
  // share of the upper one.
  int first_low_column;
  int lower, upper, low_columns;
  F share;
  // How a warp goes through a low row: the lane's first place among classes and low columns, and the
  // step to the next one.
  int first_class_read, first_column_read, class_step, column_step;

  // In shared memory, of the strip: two low rows of all classes, [2][warps of classes][K][kPitch].
  static constexpr int kPitch = kLanes + 1;  // an upper neighbour more
  F* low_rows;
  int next_low_row = 0;                       // which is not there yet
  F largest_logits[2], largest_negatives[2];  // of these rows, and the largest of -z
  // [2][kNumbers][warps of classes][32]: what the warps know of the pixels of a row.
  static constexpr int kNumbers = 3;
  F* exchanged;
  int turn = 0;  // which of the two

  // Of the classes and the thread's column: the exponential in this row, and the factor to the next.
  // Where the label is one of them, its exponential is 0, and stands apart.
  F exponential[K], factor[K];
  int label_in_warp = -1;  // k, or -1
  F label_exponential = 0, label_factor = 0;

  JML_MATH static int64_t shared_bytes(const Arguments& args, int warps) {
    const int class_warps = warps / args.strips;
    const int64_t of_strip = Base::numbers(args) + class_warps * 2 * K * kPitch,
                  between_warps = class_warps == 1 ? 0 : 2 * kNumbers * class_warps * kLanes;
    return (args.strips * of_strip + between_warps) * int64_t(sizeof(F));
  }
  JML_DEVICE unsigned char* free_memory() const {
    return shared_memory() + shared_bytes(args, team.warps);
  }

  JML_DEVICE explicit Cells(const Arguments& args)
      : Base(args),
        low_rows(reinterpret_cast<F*>(shared_memory()) + args.strips * Base::numbers(args) +
                 strip * class_warps * 2 * K * kPitch),
        exchanged(reinterpret_cast<F*>(shared_memory()) +
                  args.strips * (Base::numbers(args) + class_warps * 2 * K * kPitch)) {}

  // Takes a column, which lies before `end` where there is one.
  JML_DEVICE void take_column(int taken, int end) {
    has_column = taken < end;
    column = has_column ? taken : end - 1;
    const Place<F> place = place_of<F>(args.logits_axes.of[2], column);
    const int first_low = __shfl_sync(kAllLanes, place.lower, 0);
    first_low_column = first_low;
    low_columns = __shfl_sync(kAllLanes, place.upper, kLanes - 1) + 1 - first_low;
    lower = place.lower - first_low;
    upper = place.upper - first_low;
    share = place.weight;
    first_class_read = team.lane / low_columns;
    first_column_read = team.lane % low_columns;
    class_step = kLanes / low_columns;
    column_step = kLanes % low_columns;
    Base::forget_codes();
    next_low_row = 0;
    largest_logits[1] = largest_negatives[1] = -INFINITY;  // of no row yet
  }

  // Goes down the pixels between a low row and the next one, from their first row on, and returns the
  // row behind them. Calls row(run, i, code) for each row of a run, when the exponentials are that
  // row's, and leave() before the label changes.
  template <typename Row, typename Leave>
  JML_DEVICE int go_through(int low_row, int first, Row row, Leave leave) {
    const DeviceAxis& axis = args.logits_axes.of[0];
    const int end = int(first_pixel_at(axis, low_row + 1));
    read_low_rows(low_row, int(axis.upper(low_row)));
    const F largest = fmaxf(largest_logits[0], largest_logits[1]);
    const F logit_range = largest + fmaxf(largest_negatives[0], largest_negatives[1]);
    const bool is_near = logit_range < kRange;
    // The largest logit is taken off, and no more than has to be: where the difference is large it has
    // lost digits.
    const F less = largest - fmaxf(logit_range - kBelow, F(0));
#pragma unroll 1
    while (first < end) {
      const Run run = run_from(axis, low_row, first, end);
      const int* of_run;
      const bool counts = Base::find_codes(run, of_run);
#pragma unroll 1
      for (int i = 0; i < run.rows; ++i) {
        if (i == 0 || !is_near) {
          if (is_near)
            begin(run, less);
          else
            begin_apart(run.only(i));
          if (!__all_sync(kAllLanes, counts)) clear(counts);
          take_label(label_in_warp);
        }
        const int code = of_run[i * kLanes];
        const int label = label_of(code) - range.first_class;
        const int in_warp = label_of(code) >= 0 && label >= 0 && label < range.classes ? label : -1;
        if (__any_sync(kAllLanes, in_warp != label_in_warp)) {
          leave();
          give_label_back();
          take_label(in_warp);
        }
        row(run, i, code);
#pragma unroll
        for (int k = 0; k < K; ++k) exponential[k] *= factor[k];
        label_exponential *= label_factor;
      }
      first += run.rows;
    }
    return end;
  }

  // ---- what is known of a pixel ----
  // The sums over all classes of numbers of the warp's classes, or their maxima.
  template <typename Op, int n>
  JML_DEVICE void over_classes(F (&numbers)[n]) {
    static_assert(n <= kNumbers);
    if (class_warps == 1) return;
    // Who still reads the other half has not come to this barrier.
    F* const half = exchanged + turn * kNumbers * class_warps * kLanes + team.lane;
    turn ^= 1;
#pragma unroll
    for (int i = 0; i < n; ++i) half[(i * class_warps + class_warp) * kLanes] = numbers[i];
    __syncthreads();
#pragma unroll
    for (int i = 0; i < n; ++i) {
      const F* const of_warps = half + i * class_warps * kLanes;
      F total = of_warps[0];
      for (int warp = 1; warp < class_warps; ++warp)
        total = Op::apply(total, of_warps[warp * kLanes]);
      numbers[i] = total;
    }
  }

  // The softmax of a pixel, from the sum of exponentials over the other classes than the label, and
  // that of the label.
  struct Softmax {
    F sum_of_others, label_exponential, inverse_sum, p_label, p_not_label;

    JML_DEVICE Softmax() {}
    JML_DEVICE Softmax(int code, F sum_of_others, F label_exponential)
        : sum_of_others(sum_of_others), label_exponential(label_exponential) {
      inverse_sum = valid(code) ? reciprocal(sum_of_others + label_exponential) + poison(code) : F(0);
      p_label = label_exponential * inverse_sum;
      p_not_label = sum_of_others * inverse_sum;
    }
  };

  // How far the logit of a pixel's label lies below the largest one, of a row that is taken by itself.
  JML_DEVICE F label_gap(const Run& run, int row, int code) const {
    const F weight = run.weight_of(row);
    const int of_warp = label_of(code) / args.classes_per_warp;
    const int k = label_of(code) - of_warp * args.classes_per_warp;
    return line - ((1 - weight) * along_row(low_row_of(run.lower, of_warp) + k * kPitch) +
                   weight * along_row(low_row_of(run.upper, of_warp) + k * kPitch));
  }

  // What is taken off the logits of this row.
  F line = 0;

  // Sums over all classes of w and of w z, in the low rows above and below the thread's column, for the
  // cross-entropy of smoothed labels. All warps call it.
  struct Weighted {
    F weights, above, below;
  };
  JML_DEVICE Weighted find_weighted(const Run& run) {
    F numbers[3] = {};
#pragma unroll 1
    for (int k = 0; k < range.classes; ++k) {
      const F weight = F(args.ce_class_weights.at(range.first_class + k));
      numbers[0] += weight;
      numbers[1] += weight * along_row(low_row_of(run.lower, class_warp) + k * kPitch);
      numbers[2] += weight * along_row(low_row_of(run.upper, class_warp) + k * kPitch);
    }
    over_classes<Add>(numbers);
    return {numbers[0], numbers[1], numbers[2]};
  }

 private:
  // ---- low rows ----
  // The logits of a low row, from the first class of a warp on.
  JML_DEVICE F* low_row_of(int low_row, int of_warp) const {
    return low_rows + (low_row % 2 * class_warps + of_warp) * K * kPitch;
  }
  JML_DEVICE void read_low_rows(int first, int last) {
    first = max(first, next_low_row);
    next_low_row = last + 1;
    if (first > last) return;
    sync_classes();  // whoever still reads what was there
    for (int low_row = first; low_row <= last; ++low_row) {
      F largest[2] = {F(-INFINITY), F(-INFINITY)};
      read_low_row(low_row, largest);
#pragma unroll
      for (int i = 0; i < 2; ++i) {
#pragma unroll
        for (int offset = kLanes / 2; offset > 0; offset /= 2)
          largest[i] = fmaxf(largest[i], __shfl_xor_sync(kAllLanes, largest[i], offset));
      }
      over_classes<LargestNumber, 2>(largest);
      largest_logits[0] = first < last && low_row == first ? largest[0] : largest_logits[1];
      largest_negatives[0] =
          first < last && low_row == first ? largest[1] : largest_negatives[1];
      largest_logits[1] = largest[0];
      largest_negatives[1] = largest[1];
    }
    __syncwarp();
  }

  // The lanes share out the classes and columns.
  JML_DEVICE void read_low_row(int low_row, F (&largest)[2]) const {
    constexpr int kBatch = 4;  // under way at a time
    const TensorView& view = args.logits;
    const int64_t class_stride = view.class_stride, column_stride = view.spatial_stride[2];
    const int64_t stride = class_step * class_stride + column_step * column_stride,
                  back = class_stride - low_columns * column_stride;  // to the next class
    with_type<F, true>(view.dtype, [&](auto type) {
      using S = decltype(type);
      int k = first_class_read, i = first_column_read;
      const S* from = static_cast<const S*>(view.data) + range.image * view.image_stride +
                      (range.first_class + k) * class_stride + low_row * view.spatial_stride[0] +
                      (first_low_column + i) * column_stride;
      F* const to = low_row_of(low_row, class_warp);
      int place = k * kPitch + i;
#pragma unroll 1
      while (k < K) {
        F logits[kBatch];
        int places[kBatch];
#pragma unroll
        for (int b = 0; b < kBatch; ++b) {
          const bool is_class = k < range.classes;
          logits[b] = is_class ? convert<F>(*from) : kNoLogit;
          largest[0] = fmaxf(largest[0], logits[b]);
          largest[1] = fmaxf(largest[1], is_class ? -logits[b] : kNoLogit);
          places[b] = k < K ? place : -1;
          k += class_step;
          i += column_step;
          from += stride;
          place += class_step * kPitch + column_step;
          if (i >= low_columns) {
            ++k;
            i -= low_columns;
            from += back;
            place += kPitch - low_columns;
          }
        }
#pragma unroll
        for (int b = 0; b < kBatch; ++b) {
          if (places[b] >= 0) to[places[b]] = logits[b];
        }
      }
    });
  }

  // A low logit of the thread's column, of both sides of it.
  JML_DEVICE F along_row(const F* low_row) const {
    return (1 - share) * low_row[lower] + share * low_row[upper];
  }

  // ---- labels ----
  JML_DEVICE void give_label_back() {
    const unsigned bit = label_in_warp < 0 ? 0u : 1u << label_in_warp;
#pragma unroll
    for (int k = 0; k < K; ++k)
      if (bit >> k & 1) exponential[k] = label_exponential;
  }
  // Takes a label out of the classes, which all are there.
  JML_DEVICE void take_label(int taken) {
    label_in_warp = taken;
    label_exponential = label_factor = 0;
    const unsigned bit = taken < 0 ? 0u : 1u << taken;
#pragma unroll
    for (int k = 0; k < K; ++k)
      if (bit >> k & 1) {
        label_exponential = exponential[k];
        label_factor = factor[k];
        exponential[k] = 0;
      }
  }

  // ---- exponentials ----
  // Those of a run's first row, less the same for all columns, and the factors to the next row.
  JML_DEVICE void begin(const Run& run, F taken_off) {
    line = taken_off;
    constexpr F kLog2E = F(1.44269504);
    const F *const above = low_row_of(run.lower, class_warp),
            *const below = low_row_of(run.upper, class_warp);
    const F weight_above = (1 - run.weight) * kLog2E, weight_below = run.weight * kLog2E;
    const F step = run.step * kLog2E, less = line * kLog2E;
#pragma unroll
    for (int k = 0; k < K; ++k) {
      const F first = along_row(above + k * kPitch), second = along_row(below + k * kPitch);
      exponential[k] = exp2_fast(weight_above * first + (weight_below * second - less));
      factor[k] = exp2_fast(step * (second - first));
    }
  }

  // Those of one row, less the largest logit of each pixel.
  JML_DEVICE void begin_apart(const Run& run) {
    const F *const above = low_row_of(run.lower, class_warp),
            *const below = low_row_of(run.upper, class_warp);
    F largest[1] = {F(-INFINITY)};
#pragma unroll
    for (int k = 0; k < K; ++k) {
      exponential[k] = (1 - run.weight) * along_row(above + k * kPitch) +
                       run.weight * along_row(below + k * kPitch);
      largest[0] = LargestNumber::apply(largest[0], exponential[k]);
      factor[k] = 0;
    }
    over_classes<LargestNumber>(largest);
    line = largest[0];
#pragma unroll
    for (int k = 0; k < K; ++k) exponential[k] = exp_fast(exponential[k] - line);
  }

  // A column of a run in which no pixel counts may hold anything.
  JML_DEVICE void clear(bool counts) {
#pragma unroll
    for (int k = 0; k < K; ++k) {
      exponential[k] = counts ? exponential[k] : F(0);
      factor[k] = counts ? factor[k] : F(0);
    }
  }
};

}  // namespace jml::cuda
