// From a problem to launches: which kernel, how many warps and blocks, how much shared memory.
// Nothing here knows PyTorch; memory comes from the caller.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
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

// ---- how tensors are accessed ---------------------------------------------------------------
inline Access access_of(const TensorView& view, const int64_t (&spatial)[3]) {
  Access access;
  if (!view.given) return access;
  access.is_segment = true;
  access.pixel_stride = 1;
  bool is_first = true;
  int64_t next = 0;  // the stride with which a dimension goes on where the one behind it ends
  for (int d = 2; d >= 0; --d) {
    if (spatial[d] == 1) continue;
    if (is_first) access.pixel_stride = view.spatial_stride[d];
    access.is_segment &= is_first || view.spatial_stride[d] == next;
    next = view.spatial_stride[d] * spatial[d];
    is_first = false;
  }
  return access;
}

// Whether the first number is aligned to that many bytes, and those of each class and image too.
inline bool is_aligned(const TensorView& view, int64_t bytes, bool of_classes, bool of_images) {
  const int64_t size = view.element_bytes();
  return reinterpret_cast<uintptr_t>(view.data) % bytes == 0 &&
         (!of_images || view.image_stride * size % bytes == 0) &&
         (!of_classes || view.class_stride * size % bytes == 0);
}

// Whether a thread's pixels of a class can be loaded and stored as vectors.
inline bool has_rows(const Problem& problem, const TensorView& view, const Access& access,
                     int pixels) {
  const int64_t bytes = std::min<int64_t>(16, pixels * view.element_bytes());
  return pixels > 1 && access.is_segment && access.pixel_stride == 1 &&
         is_aligned(view, bytes, problem.classes > 1, problem.images > 1);
}

// Lets a tensor be staged if its layout allows it.
inline void stage(const Problem& problem, const TensorView& view, Access& access) {
  const int64_t bytes = problem.classes * view.element_bytes();
  const bool padded = bytes % 32 == 0;  // else lanes would meet in 4 of the 32 banks, or in fewer
  if (!access.is_segment || access.pixel_stride != problem.classes || view.class_stride != 1 ||
      problem.classes == 1 || (padded && !is_aligned(view, 16, false, problem.images > 1)))
    return;
  access.pattern = AccessPattern::staged;
  access.padding = padded ? 16 : 0;
}

inline void set_access(Arguments& args, const Kernel& kernel, bool is_general, bool is_backward) {
  args.logits_access = access_of(args.logits, args.spatial);
  args.labels_access = access_of(args.labels, args.spatial);
  args.dense_access = access_of(args.dense, args.spatial);
  args.mask_access = access_of(args.mask, args.spatial);
  args.grad_access = access_of(args.grad, args.spatial);
  struct TileTensor {  // one that tiles are filled from, or stored to
    const TensorView& view;
    Access& access;
    bool is_used;
  };
  TileTensor tensors[] = {
      {args.logits, args.logits_access, true},
      {args.dense, args.dense_access, args.dense.given && !args.integer_dense()},
      {args.grad, args.grad_access, is_backward}};
  args.side_by_side = !is_general;
  for (const TileTensor& tensor : tensors)
    if (tensor.is_used)
      args.side_by_side &= has_rows(args, tensor.view, tensor.access, kernel.pixels);
  int64_t staged_bytes = 0;
  for (const TileTensor& tensor : tensors) {
    if (!tensor.is_used) continue;
    if (args.side_by_side) {
      tensor.access.pattern = AccessPattern::rows;
    } else if (!is_general) {
      stage(args, tensor.view, tensor.access);
      if (tensor.access.pattern != AccessPattern::staged) continue;
      const int64_t pixel = args.classes * tensor.view.element_bytes() + tensor.access.padding;
      staged_bytes = std::max(staged_bytes, kLanes * pixel + 16);
    }
  }
  args.staged_bytes = int((staged_bytes + 15) / 16 * 16);
}

// ---- logits of lower resolution -------------------------------------------------------------
inline Axes axes_of(const int64_t (&low)[3], const Problem& problem) {
  Axes axes;
  for (int d = 0; d < 3; ++d) {
    DeviceAxis& axis = axes.of[d];
    static_cast<Axis&>(axis) = axis_of(low[d], problem.spatial[d], problem.align_corners);
    if (axis.step > 0) axis.reciprocal_step = 1.0 / double(axis.step);
    axis.reciprocal_unit = 1.0 / double(axis.unit);
  }
  return axes;
}

// Finds how logits are interpolated, if they are. Rows become the first dimension of what is no
// volume: along that one a patch of the gradient goes on without limit (patch.cuh).
inline void set_upsampling(Arguments& args) {
  const auto is_full = [&](const int64_t (&low)[3]) {
    return std::equal(low, low + 3, args.spatial);
  };
  args.upsample &= !is_full(args.logits_spatial) || (args.teacher && !is_full(args.dense_spatial));
  if (!args.upsample) return;
  if (args.spatial[2] > INT32_MAX)
    throw std::invalid_argument("upsample: expected rows of at most 2^31 - 1 pixels, got " +
                                std::to_string(args.spatial[2]));
  if (args.spatial[0] == 1) {
    for (int64_t(&sizes)[3] : {std::ref(args.spatial), std::ref(args.logits_spatial),
                               std::ref(args.dense_spatial)})
      std::swap(sizes[0], sizes[1]);
    for (TensorView* view : {&args.logits, &args.labels, &args.dense, &args.mask, &args.grad})
      std::swap(view->spatial_stride[0], view->spatial_stride[1]);
  }
  args.logits_axes = axes_of(args.logits_spatial, args);
  if (args.teacher) args.dense_axes = axes_of(args.dense_spatial, args);
}

// Chooses how many pixels a tile has. A warp blends 32 low columns at a time: a few pixels less save
// it a second time for one or two of them.
inline void set_tile_pixels(Arguments& args, const Kernel& kernel) {
  args.tile_pixels = kernel.pixels * kLanes;
  const Axis& columns = args.logits_axes.of[2];
  if (!args.upsample || !columns.is_interpolated()) return;
  // From the first of n + 1 pixels to the last it is n low / full columns, and 2 more are needed.
  const int64_t pixels = (kLanes - 2) * columns.full / columns.low + 1;
  if (pixels >= args.tile_pixels * 9 / 10)
    args.tile_pixels = int(std::min<int64_t>(pixels, args.tile_pixels));
}

// Shared memory for the blended rows of a tile, in the place of what is staged.
inline int staged_bytes_of_rows(const Arguments& args, const Kernel& kernel, int warps,
                                int64_t number_bytes) {
  const int64_t rows = warps * args.classes_per_warp;
  const int64_t bytes = rows * (kernel.pixels * kLanes + 1) * number_bytes;
  return int((bytes / kernel.pixels + 16) / 16 * 16);
}

// Shared memory for the sums of a patch: where classes are so many that it takes more, a patch has
// one column.
constexpr int64_t kPatchBytes = 24 * 1024;

// Chooses the columns of a patch, and in a volume its rows. A row of a patch takes as many tiles as
// its pixels fill, with those that it shares with its neighbours; the better choice has more pixels
// of its own for each tile.
inline void set_patch(Arguments& args, int64_t number_bytes) {
  const Axis &rows = args.logits_axes.of[1], &columns = args.logits_axes.of[2];
  const int64_t most = std::max<int64_t>(kPatchBytes / (2 * args.classes * number_bytes), 1);
  const double ratio = double(columns.full) / double(columns.low);
  const double tile_pixels = args.tile_pixels;
  double best = 0;
  for (int64_t size = 1; size <= std::min<int64_t>({most, columns.low, kMaxPatchColumns}); ++size) {
    const bool shares = columns.is_interpolated() && size < columns.low;
    const double tiles = std::ceil(std::ceil(double(size + shares) * ratio) / tile_pixels);
    const double use = double(size) * ratio / (tiles * tile_pixels);
    if (use <= 1.02 * best) continue;
    best = use;
    args.patches.size[2] = size;
  }
  args.patches.size[1] = std::clamp<int64_t>(most / args.patches.size[2], 1, rows.low);
}

// With cells: chooses how many strips a block of the backward has, and the columns of its patch: as
// many as the strips have room for, beside the pixels that it shares with its neighbour, so that few
// lanes are without a pixel of their own. False where there is no room for one.
inline bool set_strips(Arguments& args, int class_warps, int max_warps) {
  const Axis& columns = args.logits_axes.of[2];
  const auto pixels_of = [&](int64_t size) {
    if (columns.step == 0) return columns.full;
    // Behind the first low column there are the pixels before it too, which are half a cell. Only a
    // patch of one column can have them and be another one's neighbour.
    const int64_t cells = size + columns.is_interpolated() * (1 + (size == 1));
    return std::min(columns.full, (cells * columns.unit + columns.step - 1) / columns.step);
  };
  args.patches.size[1] = 1;
  // Warps that share classes wait for one another, and strips would too.
  const int most = class_warps > 1 ? 1 : max_warps;
  double best = 0;
  for (int strips = 1; strips <= most; ++strips) {
    int64_t size = std::min<int64_t>(columns.low, kMaxPatchColumns);
    while (size > 0 && pixels_of(size) > strips * kLanes) --size;
    if (size == 0) continue;
    const int64_t patches = (columns.low + size - 1) / size;
    const double use = double(columns.full) / double(patches * strips * kLanes);
    if (use <= 1.02 * best) continue;
    best = use;
    args.strips = strips;
    args.patches.size[2] = (columns.low + patches - 1) / patches;
  }
  return best > 0;
}

// ---- which kernel ---------------------------------------------------------------------------
enum class Kind { cells, label_cells, hard, label, dense, general };

// Whether labels are known to be hard.
inline bool is_hard(Kind kind) { return kind == Kind::hard || kind == Kind::cells; }

// Whether logits of lower resolution are gone through cell by cell.
inline bool has_cells(Kind kind) { return kind == Kind::cells || kind == Kind::label_cells; }

inline bool any_requested(const Columns& columns, std::initializer_list<int> some) {
  for (int column : some)
    if (columns.requested(column)) return true;
  return false;
}

// A dense target of which no column is requested is not read.
inline bool is_dense_needed(const Problem& problem) {
  return problem.has_dense() && (problem.dense_columns.bits != 0 || !problem.has_labels());
}

constexpr std::initializer_list<int> kOfHardLabels = {kIntersection, kTargetSquared, kPresent};

inline Kind kind_of(const Problem& problem) {
  const bool has_dense = is_dense_needed(problem);
  const bool is_tempered =
      has_dense && problem.student_temperature != 1 && problem.dense_columns.requested(kCrossEntropy);
  if (problem.activation != Activation::softmax || problem.logits.dtype == DType::f64 ||
      is_tempered)
    return Kind::general;
  const bool smooth = problem.label_smoothing != 0;
  if (problem.has_labels()) {
    const Columns& columns = problem.label_columns;
    if (any_requested(columns, {kPredictionSquared, kPredictionMax, kJointMax, kCounted}))
      return Kind::general;
    if ((smooth || has_dense) && any_requested(columns, kOfHardLabels)) return Kind::general;
  }
  if (!has_dense && problem.upsample) return smooth ? Kind::label_cells : Kind::cells;
  if (!has_dense) return smooth ? Kind::label : Kind::hard;
  if (problem.upsample ||
      any_requested(problem.dense_columns,
                    {kPredictionSquared, kTargetSquared, kPredictionMax, kJointMax, kPresent}))
    return Kind::general;
  return Kind::dense;
}

// What takes a problem for which a kind has no room.
inline Kind next_kind(Kind kind, const Problem& problem) {
  return has_cells(kind) && !any_requested(problem.label_columns, kOfHardLabels)
             ? Kind::label
             : Kind::general;
}

inline Kernels kernels_of(Kind kind, const Problem& problem) {
  const Size size = problem.classes <= 8    ? Size::few
                    : problem.classes <= 60 ? Size::some
                    : problem.classes <= 8 * 22 ? Size::many
                                                 : Size::most;
  switch (kind) {
    case Kind::cells: return cell_kernels(size);
    case Kind::label_cells: return label_cell_kernels(size);
    case Kind::hard: return hard_kernels(size);
    case Kind::label:
      return problem.upsample ? upsampling_label_kernels(size) : label_kernels(size);
    case Kind::dense:
      return problem.has_labels() ? label_and_dense_kernels(size) : dense_kernels(size);
    default: return general_kernels(problem.activation, problem.logits.dtype == DType::f64);
  }
}

// Shares out the classes among warps; false where they are too many for the kernel.
inline bool distribute_classes(Arguments& args, const Kernel& kernel, bool is_general, int& warps) {
  const int classes = int(args.classes);
  warps = (classes + kernel.classes - 1) / kernel.classes;
  if (is_general) {
    warps = std::min(warps, kernel.max_warps);
    args.classes_per_warp = kernel.classes;
    args.chunks = (classes + warps * kernel.classes - 1) / (warps * kernel.classes);
    return true;
  }
  args.classes_per_warp = (classes + warps - 1) / warps;
  args.chunks = 1;
  return warps <= kernel.max_warps;
}

// ---- how many blocks ------------------------------------------------------------------------
struct Device {
  int index = 0, multiprocessors = 1, max_shared = 48 * 1024;
};

// What a query tells is kept for later calls, here and below, but not before it has succeeded.
inline Device device_of(int index) {
  static std::mutex mutex;
  static std::map<int, Device> known;
  const std::lock_guard<std::mutex> lock(mutex);
  if (const auto entry = known.find(index); entry != known.end()) return entry->second;
  Device device;
  device.index = index;
  check(cudaDeviceGetAttribute(&device.multiprocessors, cudaDevAttrMultiProcessorCount, index),
        "number of multiprocessors");
  check(cudaDeviceGetAttribute(&device.max_shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, index),
        "shared memory of a block");
  return known[index] = device;
}

// How many blocks live on a multiprocessor at a time. This also lets the kernel have its shared
// memory.
template <typename A>
int blocks_at_a_time(const Device& device, void (*kernel)(A), int threads, int64_t shared) {
  static std::mutex mutex;
  static std::map<std::tuple<int, void (*)(A), int, int64_t>, int> known;
  const std::lock_guard<std::mutex> lock(mutex);
  const std::tuple key{device.index, kernel, threads, shared};
  if (const auto entry = known.find(key); entry != known.end()) return entry->second;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             device.max_shared),
        "shared memory of a kernel");
  int blocks = 0;
  check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, threads,
                                                      size_t(shared)),
        "occupancy of a kernel");
  if (blocks == 0) throw std::runtime_error("no block of a kernel fits this device");
  return known[key] = blocks;
}

// What the partial sums may take, whatever the size of the input. They take more only where this
// would leave a multiprocessor without a block.
constexpr int64_t kPartialBytes = 1024 * 1024;

struct Plan {
  Kind kind;
  Kernel kernel;
  int warps = 1;
  int64_t shared = 0;

  int threads() const { return warps * kLanes; }
};

// Sets how many blocks share an image's tiles, of `blocks` that the device holds at a time: none waits
// for a place, and each walks over as many tiles as the others, or over one less.
inline void share_tiles(Arguments& args, int64_t tiles, int64_t blocks) {
  const int64_t parts = std::clamp<int64_t>(blocks / args.images, 1, tiles);
  const int64_t tiles_of_part = (tiles + parts - 1) / parts;
  args.parts = int((tiles + tiles_of_part - 1) / tiles_of_part);
}

inline void set_parts(Arguments& args, const Plan& plan, const Device& device,
                      int64_t partial_bytes) {
  const bool by_cells = has_cells(plan.kind);
  const int64_t tile = by_cells ? kLanes : args.tile_pixels;
  // With upsample none goes on from row to row.
  const int64_t row = args.upsample ? args.spatial[2] : args.pixels;
  const int64_t rows = by_cells ? args.logits_spatial[0] : args.pixels / row;
  const int64_t tiles = rows * ((row + tile - 1) / tile);
  int64_t blocks = int64_t(device.multiprocessors) *
                   blocks_at_a_time(device, plan.kernel.function, plan.threads(), plan.shared);
  if (partial_bytes > 0)
    blocks = std::min(blocks, std::max<int64_t>(kPartialBytes / partial_bytes,
                                                device.multiprocessors));
  share_tiles(args, tiles, blocks);
}

// With upsample: cuts the first dimension of the logits into patches. More of them keep more blocks
// busy, and compute more twice: a patch takes as long as it has low pixels there, and one more.
inline void set_patches(Arguments& args, const Plan& plan, const Device& device) {
  Patches& patches = args.patches;
  const auto count_of = [&](int d) {
    return (args.logits_spatial[d] + patches.size[d] - 1) / patches.size[d];
  };
  const int64_t others = count_of(1) * count_of(2), length = args.logits_spatial[0];
  const int64_t at_a_time = int64_t(device.multiprocessors) *
                            blocks_at_a_time(device, plan.kernel.function, plan.threads(), plan.shared);
  int64_t least = INT64_MAX;
  constexpr int64_t kMostTurns = 16;  // then the last one, which is not full, is hardly seen
  for (int64_t count = 1; count <= length; ++count) {
    const int64_t size = (length + count - 1) / count;
    const int64_t turns = (args.images * others * count + at_a_time - 1) / at_a_time;
    if (count > 1 && turns > kMostTurns) break;
    if (turns * (size + 1) >= least) continue;
    least = turns * (size + 1);
    patches.size[0] = size;
  }
  for (int d = 0; d < 3; ++d) patches.count[d] = count_of(d);
  args.parts = int(patches.count[0] * others);
}

// The block's sums that a column is made of; -1 for none. Hard labels need few: their true
// positive, the sum of p at the label, is the intersection too, and together with the false
// negative, the sum of 1 - p there, it is the number of labels.
struct ColumnSums {
  int first, second;
};
inline ColumnSums sums_of_column(int column, bool is_hard) {
  const bool is_count = column == kTargetSquared || column == kTargetMax || column == kPresent;
  if (is_hard && is_count) return {kTruePositive, kFalseNegative};
  return {is_hard && column == kIntersection ? kTruePositive : column, -1};
}

// Gives a slot to each of the sums that the requested columns are made of.
inline void set_slots(Arguments& args, Kind kind) {
  args.slots.count = 0;
  const auto set = [&](int8_t (&slots)[kClassColumns], bool given, const Columns& columns,
                       bool is_hard) {
    std::fill(slots, slots + kClassColumns, int8_t(-1));
    for (int column = 0; given && column < kClassColumns; ++column) {
      const ColumnSums of_column = sums_of_column(column, is_hard);
      for (int sum : {of_column.first, of_column.second})
        if (columns.requested(column) && sum >= 0 && slots[sum] < 0)
          slots[sum] = int8_t(args.slots.count++);
    }
  };
  set(args.slots.of_labels, args.has_labels(), args.label_columns, is_hard(kind));
  set(args.slots.of_dense, args.has_dense(), args.dense_columns, false);
}

inline Plan plan_of(Arguments& args, bool is_backward, const Device& device) {
  args.dense.given = is_dense_needed(args);
  args.teacher &= args.dense.given;
  set_upsampling(args);
  Kind kind = kind_of(args);
  args.target_elsewhere =
      args.label_smoothing / double(args.integer_dense() ? 2 : args.label_count());
  args.label_deficit = args.label_smoothing - args.target_elsewhere;
  args.ignored_number = args.ignored_target();
  args.teacher_scale = 1 / args.teacher_temperature;
  args.student_scale = 1 / args.student_temperature;
  args.reciprocal_width = 1.0 / double(args.spatial[2]);
  args.reciprocal_height = 1.0 / double(args.spatial[1]);
  for (;; kind = next_kind(kind, args)) {
    const bool is_general = kind == Kind::general;
    const Kernels kernels = kernels_of(kind, args);
    Plan plan{kind, is_backward ? kernels.backward : kernels.forward};
    bool fits = distribute_classes(args, plan.kernel, is_general, plan.warps);
    set_access(args, plan.kernel, is_general, is_backward);
    set_tile_pixels(args, plan.kernel);
    args.strips = 1;
    if (has_cells(kind)) {
      // Only images have no size here: between low planes of a volume there are no cells.
      fits &= args.spatial[1] == 1 && args.pixels <= INT32_MAX;
      fits &= is_hard(kind) || args.boundary_size / 2 <= kMostRadius;
      if (is_backward) {
        fits &= set_strips(args, plan.warps, plan.kernel.max_warps);
        plan.warps *= args.strips;
      }
    } else if (args.upsample) {
      const int64_t number_bytes = args.logits.dtype == DType::f64 ? 8 : 4;
      args.staged_bytes = staged_bytes_of_rows(args, plan.kernel, plan.warps, number_bytes);
      if (is_backward) set_patch(args, number_bytes);
    }
    if (!is_backward) set_slots(args, kind);
    plan.shared = plan.kernel.shared_bytes(args, plan.warps);
    if (fits && plan.shared <= device.max_shared) return plan;
    if (is_general)
      throw std::invalid_argument("logits has " + std::to_string(args.classes) +
                                  " classes: expected fewer, for the " +
                                  std::to_string(device.max_shared) +
                                  " bytes of shared memory that a block has here (backend='triton' "
                                  "and 'reference' take any number)");
  }
}

// ---- forward --------------------------------------------------------------------------------
inline void set_column_sources(const Arguments& args, Kind kind, FinishArguments& finish) {
  for (int target = 0; target < args.targets(); ++target) {
    const bool of_labels = args.has_labels() && target == 0;
    const bool of_hard = of_labels && is_hard(kind);
    const int8_t* const slots = of_labels ? args.slots.of_labels : args.slots.of_dense;
    for (int column = 0; column < kClassColumns; ++column) {
      if (!args.columns(target).requested(column)) continue;
      const ColumnSums of_column = sums_of_column(column, of_hard);
      ColumnSource& source = finish.column_sources[target][column];
      source.slot = slots[of_column.first];
      if (of_column.second >= 0) source.second_slot = slots[of_column.second];
      source.is_presence = column >= kSums && of_column.second >= 0;
      source.is_maximum = column >= kSums && of_column.second < 0;
    }
  }
}

inline void set_total_sources(const Arguments& args, FinishArguments& finish) {
  const double elements = args.independent() ? double(args.classes) : 1.0;  // of a pixel
  const bool weighted = args.ce_class_weights.data && !args.independent();
  for (int target = 0; target < args.targets(); ++target) {
    const Columns& columns = args.columns(target);
    const bool of_labels = args.has_labels() && target == 0;
    const auto set = [&](int column, BlockTotal block_total, double factor) {
      if (columns.requested(column))
        finish.total_sources[target][column - kCrossEntropy] = {int8_t(block_total), factor};
    };
    set(kCrossEntropy, of_labels ? kLabelCrossEntropy : kDenseCrossEntropy, 1);
    if (of_labels && weighted)
      set(kCrossEntropyWeight, kLabelWeight, 1);
    else if (!of_labels && args.ignores_elements())
      set(kCrossEntropyWeight, args.independent() ? kElements : kPixelsCounted, 1);
    else
      set(kCrossEntropyWeight, kPixelsCounted, elements);
    if (!of_labels && args.teacher) set(kTargetEntropy, kTeacherEntropy, 1);
    finish.total_sources[target][kValid - kCrossEntropy] = {int8_t(kPixelsCounted), 1};
  }
}

struct Outputs {
  double *sums, *extrema, *totals;
};

// Makes two launches. allocate(count) gives that many numbers of double precision on the device.
template <typename Allocate>
void forward(const Arguments& requested, const Device& device, cudaStream_t stream,
             const Outputs& outputs, Allocate allocate) {
  Arguments args = requested;  // less what no kernel needs
  const Plan plan = plan_of(args, false, device);
  const int total_warps = plan.kind == Kind::general ? plan.warps : 1;
  args.partials_per_block = args.slots.count * args.classes + total_warps * kBlockTotals;
  set_parts(args, plan, device, args.partials_per_block * int64_t(sizeof(double)));
  args.partials = allocate(args.images * args.parts * args.partials_per_block);
  launch(plan.kernel.function, args.images * args.parts, plan.threads(), plan.shared, stream,
         args);

  FinishArguments finish{};
  set_column_sources(args, plan.kind, finish);
  set_total_sources(requested, finish);
  finish.targets = requested.targets();
  finish.partials = args.partials;
  finish.partials_per_block = args.partials_per_block;
  finish.parts = args.parts;
  finish.warps = total_warps;
  finish.images = args.images;
  finish.classes = args.classes;
  finish.first_total = args.slots.count * args.classes;
  finish.sums = outputs.sums;
  finish.extrema = outputs.extrema;
  finish.totals = outputs.totals;
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
  if (args.upsample)
    set_patches(args, plan, device);
  else
    set_parts(args, plan, device, 0);
  launch(plan.kernel.function, args.images * args.parts, plan.threads(), plan.shared, stream,
         args);
}

}  // namespace jml::cuda
