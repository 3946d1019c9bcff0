// Runs of rows between two low rows, and the codes of their pixels (labels.cuh): what cells.cuh goes
// through.
//
//     strip    32 columns of pixels, each a thread's, whose classes some warps share
//     run      some rows of pixels between the same two low rows, at most kRun
//     codes    a number for each pixel of a strip and of kRun rows, which may be more than one run, in
//              shared memory
//
// With boundaries, the labels of these rows lie there too, and those around them as far as windows reach. A
// window is taken apart, along the row and then over rows, as in labels.cuh. All its labels are the
// same where their bits taken by OR are those taken by AND, which one instruction does for three of
// them; and one that is ignored, or out of range, has the bit of the sign.
#pragma once

#include "sums.cuh"

namespace jml::cuda {

constexpr int kRun = 8;

// What a kernel of cells is compiled for: K classes of a thread, as Config has it.
template <bool kHard_, int K_, int kMaxWarps_, int kWarpsAtATime_>
struct CellConfig {
  using F = float;
  static constexpr bool kLabels = true, kHard = kHard_, kGeneral = false, kSoftmax = true;
  // Two lanes take turns at a bin (sums.cuh): labels change seldom, and shared memory is short.
  static constexpr int K = K_, kMaxThreads = kMaxWarps_ * kLanes, kBinLanes = kLanes / 2;
  static constexpr int kMinBlocks = kWarpsAtATime_ / kMaxWarps_;
  static_assert(K % 4 == 0, "four coefficients are read at once");
};

// Rows of pixels between two low rows, as long as their places are evenly spaced.
struct Run {
  int first, rows;     // the first row, and how many
  int lower, upper;    // low rows
  float weight, step;  // the share of the upper one in the first row, and what a row adds to it

  JML_DEVICE float weight_of(int row) const { return weight + float(row) * step; }
  // What of a row's gradient the upper low row gets, which may be the lower one itself.
  JML_DEVICE float share_of_upper(int row) const { return upper > lower ? weight_of(row) : 0; }
  // The run of one row.
  JML_DEVICE Run only(int row) const { return {first + row, 1, lower, upper, weight_of(row), 0}; }
};

// The run that begins with a row, whose lower neighbour is known. It ends before another row.
JML_DEVICE Run run_from(const DeviceAxis& axis, int low_row, int row, int end) {
  const int64_t place = row * axis.step + axis.offset;
  // Before the first low row all pixels are as that one.
  const bool is_before = place < 0;
  if (is_before) end = min(end, int(first_pixel_from(axis, 0)));
  const double weight = double(place - low_row * axis.unit) * axis.reciprocal_unit;
  return {row,
          min(end - row, kRun),
          low_row,
          int(axis.upper(low_row)),
          is_before ? 0 : float(weight),
          is_before ? 0 : float(double(axis.step) * axis.reciprocal_unit)};
}

// A strip, and the codes of a run there.
template <class C>
struct CellCodes {
  const Arguments& args;
  const Team team;
  // Warps share the classes of a strip; a block may have several strips.
  const int class_warps, class_warp, strip;
  TileRange range;

  int column;  // the thread's, or the last one where it has none
  bool has_column;
  int* codes;  // of the strip, in shared memory: [kRun][32]

  // How many numbers a strip has in shared memory, a multiple of 16 bytes.
  JML_MATH static int numbers(const Arguments& args) {
    const int codes = kRun * kLanes;
    if (!has_windows(args)) return codes;
    const int rows = kRun + 2 * radius(args), labels = rows * (kLanes + 2 * radius(args));
    return codes + rows * kLanes + (labels + 7) / 8 * 4;  // two labels take as much as a number
  }

  JML_DEVICE explicit CellCodes(const Arguments& args)
      : args(args),
        class_warps(team.warps / args.strips),
        class_warp(team.warp % class_warps),
        strip(team.warp / class_warps),
        codes(reinterpret_cast<int*>(shared_memory()) + strip * numbers(args)) {
    range.image = int(blockIdx.x) / args.parts;
    range.first_class = class_warp * args.classes_per_warp;
    const int left = int(args.classes) - range.first_class;
    range.classes = left < args.classes_per_warp ? left : args.classes_per_warp;
  }

  JML_DEVICE static bool valid(int code) { return code & Code::kValid; }
  JML_DEVICE static bool smoothed(int code) { return !C::kHard && (code & Code::kSmoothed); }
  JML_DEVICE static int label_of(int code) { return (code & Code::kClass) - 1; }
  JML_DEVICE static float poison(int code) { return code & Code::kWrong ? float(NAN) : 0; }

  JML_DEVICE void sync_classes() const {
    if (class_warps == 1)
      __syncwarp();
    else
      __syncthreads();
  }

  // Sees to it that the codes of a run are there, and returns whether some pixel of the thread's column
  // counts. `of_run` gets the place of its code in the first row; that of the next row is 32 further.
  JML_DEVICE bool find_codes(const Run& run, const int*& of_run) {
    if (run.first < first_row || run.first + run.rows > end_row) write_codes(run.first);
    of_run = codes + (run.first - first_row) * kLanes + team.lane;
    int any = 0;
#pragma unroll 1
    for (int row = 0; row < run.rows; ++row) any |= of_run[row * kLanes];
    return valid(any);
  }
  // Another strip has other ones.
  JML_DEVICE void forget_codes() { first_row = end_row = 0; }

 private:
  static constexpr int kBatch = 4;  // labels that are under way at a time

  JML_MATH static bool has_windows(const Arguments& args) {
    return !C::kHard && args.boundary_size != 0;
  }
  JML_MATH static int radius(const Arguments& args) {
    return args.boundary_size / 2 < kMostRadius ? int(args.boundary_size / 2) : kMostRadius;
  }

  int first_row = 0, end_row = 0;  // whose codes are there

  // Rows of pixels whose codes are made at a time.
  struct Rows {
    int first, count;
  };

  // Makes the codes of a row and of those below it, as far as there is room. The warps of a strip share
  // the rows; who still reads the last codes has not come to the barrier of the last row.
  JML_DEVICE void write_codes(int first) {
    first_row = first;
    end_row = min(first + kRun, int(args.spatial[0]));
    const Rows rows{first, end_row - first};
    if (has_windows(args))
      write_smoothed_codes(rows);
    else
      write_codes_of_labels(rows);
    if (class_warps > 1) __syncthreads();
  }

  // The code of a pixel of the thread's column, from that of its label.
  JML_DEVICE int code_at(int row, int label, bool is_smoothed) const {
    if (!has_column) return 0;
    if (args.mask.given && is_masked(args, range, int64_t{row} * args.spatial[2] + column)) return 0;
    const int code = code_of_label<C>(args, label);
    return is_smoothed && code > 0 ? code | Code::kSmoothed : code;
  }

  JML_DEVICE void write_codes_of_labels(const Rows& rows) const {
#pragma unroll 1
    for (int first = class_warp; first < rows.count; first += kBatch * class_warps) {
      int labels[kBatch] = {};
      visit_integer(args.labels, [&](const auto* from) {
        const int64_t stride = args.labels.spatial_stride[0];
        from += range.image * args.labels.image_stride + column * args.labels.spatial_stride[2] +
                (rows.first + first) * stride;
#pragma unroll
        for (int b = 0; b < kBatch; ++b) {
          if (first + b * class_warps < rows.count)
            labels[b] = label_code<C>(args, label_number(*from));
          from += class_warps * stride;
        }
      });
#pragma unroll
      for (int b = 0; b < kBatch; ++b) {
        const int row = first + b * class_warps;
        if (row < rows.count)
          codes[row * kLanes + team.lane] = code_at(rows.first + row, labels[b], !C::kHard);
      }
    }
  }

  // ---- boundaries ----
  // The labels of a run and of what lies around it, as far as windows reach; and for each row and column
  // of the strip the labels of a window's row, by OR in the lower half and by AND in the upper half.
  struct Windows {
    int radius, rows, columns;
    int* bits;        // [rows][32]
    int16_t* labels;  // [rows][columns]: kernels of cells have few classes
  };
  JML_DEVICE Windows windows_of(const Rows& rows) const {
    const int r = radius(args);
    int* const bits = codes + kRun * kLanes;
    return {r, rows.count + 2 * r, kLanes + 2 * r, bits,
            reinterpret_cast<int16_t*>(bits + (kRun + 2 * r) * kLanes)};
  }

  JML_DEVICE void write_smoothed_codes(const Rows& rows) const {
    const Windows windows = windows_of(rows);
    __syncwarp();  // whoever still looks at the labels of the rows before; other warps do not (above)
    visit_integer(args.labels, [&](const auto* labels) { read_labels(rows, windows, labels); });
    sync_classes();
    // Windows of 3 x 3 are the most frequent by far.
    if (windows.radius == 1)
      mark_boundaries<1>(rows, windows);
    else
      mark_boundaries<0>(rows, windows);
  }

  // kRadius is 0 for any.
  template <int kRadius>
  JML_DEVICE void mark_boundaries(const Rows& rows, const Windows& windows) const {
    const int last = 2 * (kRadius > 0 ? kRadius : windows.radius), columns = kLanes + last;
    const int16_t* labels = windows.labels + class_warp * columns + team.lane;
    int* bits = windows.bits + class_warp * kLanes + team.lane;
#pragma unroll 1
    for (int row = class_warp; row < windows.rows; row += class_warps) {
      int any = labels[0], all = any;
#pragma unroll(kRadius > 0 ? kRadius : 1)
      for (int i = 1; i <= last; i += 2) {
        any |= labels[i] | labels[i + 1];
        all &= labels[i] & labels[i + 1];
      }
      *bits = (any & 0xffff) | all << 16;
      labels += class_warps * columns;
      bits += class_warps * kLanes;
    }
    if (class_warps > 1) __syncthreads();
    labels = windows.labels + (class_warp + last / 2) * columns + last / 2 + team.lane;
    bits = windows.bits + class_warp * kLanes + team.lane;
    int* code = codes + class_warp * kLanes + team.lane;
#pragma unroll 1
    for (int row = class_warp; row < rows.count; row += class_warps) {
      int any = bits[0], all = any;
#pragma unroll(kRadius > 0 ? kRadius : 1)
      for (int i = 1; i <= last; i += 2) {
        any |= bits[i * kLanes] | bits[(i + 1) * kLanes];
        all &= bits[i * kLanes] & bits[(i + 1) * kLanes];
      }
      const bool is_boundary = int16_t(any) >= 0 && int16_t(any) != all >> 16;
      *code = code_at(rows.first + row, *labels, is_boundary);
      labels += class_warps * columns;
      bits += class_warps * kLanes;
      code += class_warps * kLanes;
    }
  }

  // Where a window reaches beyond the edge of the image the pixels at the edge stand for those that
  // there are not: they are in the window too.
  template <typename L>
  JML_DEVICE void read_labels(const Rows& rows, const Windows& windows, const L* labels) const {
    const int last_row = int(args.spatial[0]) - 1, last_column = int(args.spatial[2]) - 1;
    const int first = rows.first - windows.radius;
    const int first_column = __shfl_sync(kAllLanes, column, 0) - windows.radius;
    const int64_t row_stride = args.labels.spatial_stride[0];
    labels += range.image * args.labels.image_stride;
    const auto column_at = [&](int i) {
      return labels + min(max(first_column + i, 0), last_column) * args.labels.spatial_stride[2];
    };
    const auto row_at = [&](int i) { return min(max(first + i, 0), last_row); };
    // The strip's own columns, row by row.
    const int step = class_warps;
    const L* const own = column_at(windows.radius + team.lane);
    int16_t* const to = windows.labels + windows.radius + team.lane;
#pragma unroll 1
    for (int begin = class_warp; begin < windows.rows; begin += kBatch * step) {
      L numbers[kBatch];
#pragma unroll
      for (int b = 0; b < kBatch; ++b) numbers[b] = own[row_at(begin + b * step) * row_stride];
#pragma unroll
      for (int b = 0; b < kBatch; ++b) {
        const int row = begin + b * step;
        if (row < windows.rows)
          to[row * windows.columns] = int16_t(label_code<C>(args, label_number(numbers[b])));
      }
    }
    // Those on both sides of it, column by column: the rows are no more than lanes.
    const int row = team.lane;
    if (row >= windows.rows) return;
    const int64_t of_row = row_at(row) * row_stride;
#pragma unroll 1
    for (int i = class_warp; i < 2 * windows.radius; i += step) {
      const int column = i < windows.radius ? i : kLanes + i;
      windows.labels[row * windows.columns + column] =
          int16_t(label_code<C>(args, label_number(column_at(column)[of_row])));
    }
  }
};

}  // namespace jml::cuda
