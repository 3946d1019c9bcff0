// From a problem to launches: which kernel, how many warps and blocks, how much shared memory. No
// PyTorch: memory comes from the caller.
#pragma once

#include <algorithm>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>
#include <tuple>

#include "finish.cuh"
#include "kernels.h"

namespace jml::cuda {

inline void check(cudaError_t error, const char* what) {
  if (error != cudaSuccess)
    throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(error));
}

template <typename A>
void launch(void (*kernel)(A), int64_t blocks, int threads, int64_t shared, cudaStream_t stream,
            const A& args) {
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = static_cast<size_t>(shared);
  config.stream = stream;
  check(cudaLaunchKernelEx(&config, kernel, args), "launch of a kernel");
}

// ---- how tensors are read -------------------------------------------------------------------
inline Reading reading_of(const TensorView& view, const int64_t (&spatial)[3]) {
  Reading reading;
  if (!view.given) return reading;
  reading.is_run = true;
  reading.step = 1;
  bool is_first = true;
  int64_t next = 0;  // the stride with which a dimension goes on where the one behind it ends
  for (int d = 2; d >= 0; --d) {
    if (spatial[d] == 1) continue;
    if (is_first) reading.step = view.spatial_stride[d];
    reading.is_run &= is_first || view.spatial_stride[d] == next;
    next = view.spatial_stride[d] * spatial[d];
    is_first = false;
  }
  return reading;
}

inline bool is_aligned(const TensorView& view, int64_t bytes, bool of_classes, bool of_images) {
  const int64_t size = view.element_bytes();
  return reinterpret_cast<uintptr_t>(view.data) % bytes == 0 &&
         (!of_images || view.image_stride * size % bytes == 0) &&
         (!of_classes || view.class_stride * size % bytes == 0);
}

// Whether V pixels of a class are one load, or store.
inline bool has_rows(const Problem& problem, const TensorView& view, const Reading& reading,
                     int pixels) {
  const int64_t bytes = std::min<int64_t>(16, pixels * view.element_bytes());
  return pixels > 1 && reading.is_run && reading.step == 1 &&
         is_aligned(view, bytes, problem.classes > 1, problem.images > 1);
}

// Makes a reading staged where it may be.
inline void stage(const Problem& problem, const TensorView& view, Reading& reading) {
  const int64_t bytes = problem.classes * view.element_bytes();
  const bool padded = bytes % 32 == 0;  // else lanes meet in 4 of the 32 banks, or in more
  if (!reading.is_run || reading.step != problem.classes || view.class_stride != 1 ||
      problem.classes == 1 || (padded && !is_aligned(view, 16, false, problem.images > 1)))
    return;
  reading.reach = Reach::staged;
  reading.padding = padded ? 16 : 0;
}

inline void set_reach(Arguments& args, const Kernel& kernel, bool is_general, bool is_backward) {
  args.read_logits = reading_of(args.logits, args.spatial);
  args.read_labels = reading_of(args.labels, args.spatial);
  args.read_dense = reading_of(args.dense, args.spatial);
  args.read_mask = reading_of(args.mask, args.spatial);
  args.read_grad = reading_of(args.grad, args.spatial);
  struct Tile {
    const TensorView& view;
    Reading& reading;
    bool there;
  };
  Tile tiles[] = {{args.logits, args.read_logits, true},
                  {args.dense, args.read_dense, args.dense.given && !args.integer_dense()},
                  {args.grad, args.read_grad, is_backward}};
  args.side_by_side = !is_general;
  for (const Tile& tile : tiles)
    if (tile.there)
      args.side_by_side &= has_rows(args, tile.view, tile.reading, kernel.pixels);
  int64_t slot = 0;
  for (const Tile& tile : tiles) {
    if (!tile.there) continue;
    if (args.side_by_side) {
      tile.reading.reach = Reach::rows;
    } else if (!is_general) {
      stage(args, tile.view, tile.reading);
      if (tile.reading.reach != Reach::staged) continue;
      const int64_t pixel = args.classes * tile.view.element_bytes() + tile.reading.padding;
      slot = std::max(slot, kLanes * pixel + 16);
    }
  }
  args.staged_bytes = int((slot + 15) / 16 * 16);
}

// ---- which kernel ---------------------------------------------------------------------------
enum class Kind { hard, label, dense, general };

inline bool wants_any(const Columns& columns, std::initializer_list<int> some) {
  for (int column : some)
    if (columns.wants(column)) return true;
  return false;
}

// What nobody asks for is not read.
inline bool is_dense_needed(const Problem& problem) {
  return problem.has_dense() && (problem.dense_columns.bits != 0 || !problem.has_labels());
}

inline Kind kind_of(const Problem& problem) {
  const bool has_dense = is_dense_needed(problem);
  const bool tempered =
      has_dense && problem.student_temperature != 1 && problem.dense_columns.wants(kCrossEntropy);
  if (problem.activation != Activation::softmax || problem.logits.dtype == DType::f64 || tempered)
    return Kind::general;
  const bool smooth = problem.label_smoothing != 0;
  if (problem.has_labels()) {
    const Columns& columns = problem.label_columns;
    if (wants_any(columns, {kPredictionSquared, kPredictionMax, kJointMax})) return Kind::general;
    if ((smooth || has_dense) && wants_any(columns, {kIntersection, kTargetSquared, kPresent}))
      return Kind::general;
  }
  if (!has_dense) return smooth ? Kind::label : Kind::hard;
  if (wants_any(problem.dense_columns,
                {kPredictionSquared, kTargetSquared, kPredictionMax, kJointMax, kPresent}))
    return Kind::general;
  return Kind::dense;
}

inline Kernels kernels_of(Kind kind, const Problem& problem) {
  const Size size = problem.classes <= 8    ? Size::few
                    : problem.classes <= 60 ? Size::some
                                            : Size::many;
  switch (kind) {
    case Kind::hard: return hard_kernels(size);
    case Kind::label: return label_kernels(size);
    case Kind::dense: return dense_kernels(size);
    default: return general_kernels(problem.activation, problem.logits.dtype == DType::f64);
  }
}

// Shares the classes out among warps; false where they are too many.
inline bool share_classes(Arguments& args, const Kernel& kernel, bool is_general, int& warps) {
  const int classes = int(args.classes);
  warps = (classes + kernel.classes - 1) / kernel.classes;
  if (is_general) {
    warps = std::min(warps, kernel.most_warps);
    args.classes_of_warp = kernel.classes;
    args.chunks = (classes + warps * kernel.classes - 1) / (warps * kernel.classes);
    return true;
  }
  args.classes_of_warp = (classes + warps - 1) / warps;
  args.chunks = 1;
  return warps <= kernel.most_warps;
}

// ---- how many blocks ------------------------------------------------------------------------
struct Device {
  int index = 0, multiprocessors = 1, most_shared = 48 * 1024;
};

inline Device device_of(int index) {
  static std::mutex mutex;
  static std::map<int, Device> known;
  const std::lock_guard<std::mutex> lock(mutex);
  auto [found, is_new] = known.try_emplace(index);
  if (is_new) {
    Device& device = found->second;
    device.index = index;
    check(cudaDeviceGetAttribute(&device.multiprocessors, cudaDevAttrMultiProcessorCount, index),
          "number of multiprocessors");
    check(cudaDeviceGetAttribute(&device.most_shared, cudaDevAttrMaxSharedMemoryPerBlockOptin,
                                 index),
          "shared memory of a block");
  }
  return found->second;
}

// Blocks that live on a multiprocessor at a time; lets the kernel have its shared memory.
inline int blocks_at_a_time(const Device& device, const Kernel& kernel, int threads,
                            int64_t shared) {
  static std::mutex mutex;
  static std::map<std::tuple<int, void (*)(Arguments), int, int64_t>, int> known;
  const std::lock_guard<std::mutex> lock(mutex);
  auto [found, is_new] = known.try_emplace({device.index, kernel.function, threads, shared}, 0);
  if (is_new) {
    check(cudaFuncSetAttribute(kernel.function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               device.most_shared),
          "shared memory of a kernel");
    check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&found->second, kernel.function, threads,
                                                        size_t(shared)),
          "occupancy of a kernel");
    if (found->second == 0) throw std::runtime_error("no block of a kernel fits this device");
  }
  return found->second;
}

// Of partial sums, whatever the size of the input; more only where each multiprocessor could not
// have a block else.
constexpr int64_t kPartialBytes = 1024 * 1024;

struct Plan {
  Kind kind;
  Kernel kernel;
  int warps = 1;
  int64_t shared = 0;

  int threads() const { return warps * kLanes; }
};

// Blocks are as many as the device holds at a time, so that none waits for a place, and each walks
// over as many tiles as the next one, or one less.
inline void cut(Arguments& args, const Plan& plan, const Device& device, int64_t row_bytes) {
  const int64_t tile = plan.kernel.pixels * kLanes;
  const int64_t tiles = (args.pixels + tile - 1) / tile;
  int64_t blocks = int64_t(device.multiprocessors) *
                   blocks_at_a_time(device, plan.kernel, plan.threads(), plan.shared);
  if (row_bytes > 0)
    blocks = std::min(blocks, std::max<int64_t>(kPartialBytes / row_bytes,
                                                device.multiprocessors));
  const int64_t parts = std::clamp<int64_t>(blocks / args.images, 1, tiles);
  const int64_t tiles_of_part = (tiles + parts - 1) / parts;
  args.parts = int((tiles + tiles_of_part - 1) / tiles_of_part);
}

// The sums that a column is made of, -1 for none. Hard labels need few: sum x at the label is the
// intersection too, and with sum 1 - x there it is the number of labels.
struct MadeOf {
  int first, second;
};
inline MadeOf made_of(int column, bool is_hard) {
  const bool is_count = column == kTargetSquared || column == kTargetMax || column == kPresent;
  if (is_hard && is_count) return {kTruePositive, kFalseNegative};
  return {is_hard && column == kIntersection ? kTruePositive : column, -1};
}

// Which sums the kernel makes, for the columns that are asked for.
inline void set_slots(Arguments& args, Kind kind) {
  args.slots.count = 0;
  const auto set = [&](int8_t (&slots)[kClassColumns], bool given, const Columns& columns,
                       bool is_hard) {
    std::fill(slots, slots + kClassColumns, int8_t(-1));
    for (int column = 0; given && column < kClassColumns; ++column) {
      const MadeOf made = made_of(column, is_hard);
      for (int sum : {made.first, made.second})
        if (columns.wants(column) && sum >= 0 && slots[sum] < 0)
          slots[sum] = int8_t(args.slots.count++);
    }
  };
  set(args.slots.of_labels, args.has_labels(), args.label_columns, kind == Kind::hard);
  set(args.slots.of_dense, args.has_dense(), args.dense_columns, false);
}

inline Plan plan_of(Arguments& args, bool is_backward, const Device& device) {
  Kind kind = kind_of(args);
  args.off = args.label_smoothing / double(args.integer_dense() ? 2 : args.label_count());
  args.share = args.label_smoothing - args.off;
  args.teacher_scale = 1 / args.teacher_temperature;
  args.student_scale = 1 / args.student_temperature;
  args.reciprocal_width = 1.0 / double(args.spatial[2]);
  args.reciprocal_height = 1.0 / double(args.spatial[1]);
  args.dense.given = is_dense_needed(args);
  args.teacher &= args.dense.given;
  for (;; kind = Kind::general) {
    const bool is_general = kind == Kind::general;
    const Kernels kernels = kernels_of(kind, args);
    Plan plan{kind, is_backward ? kernels.backward : kernels.forward};
    const bool fits = share_classes(args, plan.kernel, is_general, plan.warps);
    set_reach(args, plan.kernel, is_general, is_backward);
    if (!is_backward) set_slots(args, kind);
    plan.shared = plan.kernel.shared_bytes(args, plan.warps);
    if (fits && plan.shared <= device.most_shared) return plan;
    if (is_general)
      throw std::invalid_argument("logits has " + std::to_string(args.classes) +
                                  " classes: expected fewer, for the " +
                                  std::to_string(device.most_shared) +
                                  " bytes of shared memory that a block has here (backend='triton' "
                                  "and 'reference' take any number)");
  }
}

// ---- forward --------------------------------------------------------------------------------
inline void set_columns(const Arguments& args, Kind kind, FinishArguments& finish) {
  for (int target = 0; target < args.targets(); ++target) {
    const bool of_labels = args.has_labels() && target == 0;
    const bool is_hard = of_labels && kind == Kind::hard;
    const int8_t* const slots = of_labels ? args.slots.of_labels : args.slots.of_dense;
    for (int column = 0; column < kClassColumns; ++column) {
      if (!args.columns(target).wants(column)) continue;
      const MadeOf made = made_of(column, is_hard);
      Source& source = finish.columns[target][column];
      source.slot = slots[made.first];
      if (made.second >= 0) source.more = slots[made.second];
      source.is_presence = column >= kSums && made.second >= 0;
      source.is_maximum = column >= kSums && made.second < 0;
    }
  }
}

inline void set_totals(const Arguments& args, FinishArguments& finish) {
  const double factor = args.independent() ? double(args.classes) : 1.0;
  const bool weighted = args.ce_class_weights.data && !args.independent();
  for (int target = 0; target < args.targets(); ++target) {
    const Columns& columns = args.columns(target);
    const bool of_labels = args.has_labels() && target == 0;
    const auto set = [&](int column, int total, double times) {
      if (columns.wants(column))
        finish.totals[target][column - kCrossEntropy] = {int8_t(total), times};
    };
    set(kCrossEntropy, of_labels ? kLabelEntropy : kDenseEntropy, 1);
    if (of_labels && weighted)
      set(kCrossEntropyWeight, kLabelWeight, 1);
    else if (!of_labels && args.integer_dense())
      set(kCrossEntropyWeight, args.independent() ? kElements : kPixelsCounted, 1);
    else
      set(kCrossEntropyWeight, kPixelsCounted, factor);
    if (!of_labels && args.teacher) set(kTargetEntropy, kTeacherEntropy, 1);
    finish.totals[target][kValid - kCrossEntropy] = {int8_t(kPixelsCounted), 1};
  }
}

struct Outputs {
  double *sums, *extrema, *totals;
};

// Two launches. memory(count) gives that many numbers of double precision on the device.
template <typename Memory>
void forward(const Arguments& asked, const Device& device, cudaStream_t stream,
             const Outputs& outputs, Memory memory) {
  Arguments args = asked;  // but for what nobody needs
  const Plan plan = plan_of(args, false, device);
  const int total_warps = plan.kind == Kind::general ? plan.warps : 1;
  args.row = args.slots.count * args.classes + total_warps * kBlockTotals;
  cut(args, plan, device, args.row * int64_t(sizeof(double)));
  args.partials = memory(args.images * args.parts * args.row);
  launch(plan.kernel.function, args.images * args.parts, plan.threads(), plan.shared, stream,
         args);

  FinishArguments finish{};
  set_columns(args, plan.kind, finish);
  set_totals(asked, finish);
  finish.targets = asked.targets();
  finish.partials = args.partials;
  finish.row = args.row;
  finish.parts = args.parts;
  finish.warps = total_warps;
  finish.images = args.images;
  finish.classes = args.classes;
  finish.first_total = args.slots.count * args.classes;
  finish.sums = outputs.sums;
  finish.extrema = outputs.extrema;
  finish.total_out = outputs.totals;
  const int64_t jobs =
      finish.targets * (kClassColumns * ((args.classes + kLanes - 1) / kLanes) + kTotals);
  launch(finish_kernel, args.images * jobs, kFinishThreads,
         kFinishThreads * int64_t(sizeof(double)), stream, finish);
}

inline void formula(const FormulaArguments& args, cudaStream_t stream) {
  launch(formula_kernel, 1, kFormulaThreads, kFormulaThreads * int64_t(sizeof(double)), stream,
         args);
}

// ---- backward -------------------------------------------------------------------------------
inline void backward(Arguments args, const Device& device, cudaStream_t stream) {
  const Plan plan = plan_of(args, true, device);
  cut(args, plan, device, 0);
  launch(plan.kernel.function, args.images * args.parts, plan.threads(), plan.shared, stream,
         args);
}

}  // namespace jml::cuda
