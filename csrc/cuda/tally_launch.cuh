// From a problem to the launches that count for metrics: two, or three with boundaries.
#pragma once

#include "launch.cuh"
#include "tally_arguments.cuh"

namespace jml::cuda {

// ---- the pass over the logits ---------------------------------------------------------------
// How many warps share the classes of a tile; false where they are too many for the kernel.
inline bool distribute_tally(TallyArguments& args, const TallyKernel& kernel, bool is_general,
                             int& warps) {
  const Kernel shape{nullptr, kernel.classes, kernel.pixels, kernel.max_warps, nullptr};
  const bool fits = distribute_classes(args, shape, is_general, warps);
  set_access(args, shape, is_general, false);
  set_tile_pixels(args, shape);
  if (args.upsample) {
    const int64_t number_bytes = args.logits.dtype == DType::f64 ? 8 : 4;
    args.staged_bytes = staged_bytes_of_rows(args, shape, warps, number_bytes);
  }
  return fits;
}

// What counters may take of shared memory, for each warp of a block: with 12 to 16 warps on a
// multiprocessor all of them find room.
constexpr int64_t kCounterBytesOfWarp = 12 * 1024;
// A matrix of more classes would be mostly zeros, and is read once for each block.
constexpr int64_t kMostClassesOfMatrix = 64;

// Chooses which counters lie in shared memory: those that most pixels add to come first.
inline void set_counters(TallyArguments& args, const TallyKernel& kernel, int warps,
                         const Device& device) {
  args.has_matrix = args.has_class_counts = false;
  args.has_calibration_bins = args.has_classwise_bins = false;
  const int64_t state = kernel.shared_bytes(args, warps);
  const auto take = [&](bool& has, bool is_wanted) {
    has = is_wanted;
    const int64_t bytes = kernel.shared_bytes(args, warps);
    has &= bytes <= device.max_shared && bytes - state <= kCounterBytesOfWarp * warps;
  };
  take(args.has_calibration_bins, args.calibration);
  take(args.has_matrix, args.classes <= kMostClassesOfMatrix);
  take(args.has_class_counts, !args.has_matrix);
  take(args.has_classwise_bins, args.classwise);
}

struct TallyPlan {
  TallyKernel kernel;
  int warps = 1;
  int64_t shared = 0;

  int threads() const { return warps * kLanes; }
};

inline TallyPlan tally_plan_of(TallyArguments& args, const Device& device) {
  set_upsampling(args);
  args.reciprocal_width = 1.0 / double(args.spatial[2]);
  args.reciprocal_height = 1.0 / double(args.spatial[1]);
  for (bool is_general = args.logits.dtype == DType::f64;; is_general = true) {
    TallyPlan plan;
    plan.kernel = is_general ? general_tally_kernel(args.logits.dtype == DType::f64)
                  : args.upsample ? upsampling_tally_kernel_for(args.classes)
                                  : tally_kernel_for(args.classes);
    const bool fits = distribute_tally(args, plan.kernel, is_general, plan.warps);
    set_counters(args, plan.kernel, plan.warps, device);
    args.tiles_of_first_bins = std::max(
        int(std::min(double(UINT32_MAX) / (plan.kernel.pixels * args.apart_from), 1e6)), 1);
    plan.shared = plan.kernel.shared_bytes(args, plan.warps);
    if (fits && plan.shared <= device.max_shared) return plan;
    if (is_general)
      throw std::invalid_argument("a block finds no room in the " +
                                  std::to_string(device.max_shared) +
                                  " bytes of shared memory that it has here");
  }
}

// The smallest probability that is not in the first of some bins, as the kernel multiplies, in
// units. What is above a half is taken apart as well: then what a thread adds up of a tile fits 32
// bits.
template <typename F>
double apart_from(int64_t bins) {
  F p = F(1) / F(bins);
  while (p * F(bins) >= F(1)) p = std::nextafter(p, F(0));
  while (p * F(bins) < F(1)) p = std::nextafter(p, F(2));
  return std::min(double(p), 0.5) * double(kProbabilityUnits);
}

inline void set_tally_parts(TallyArguments& args, const TallyPlan& plan, const Device& device) {
  // With upsample none goes on from row to row.
  const int64_t row = args.upsample ? args.spatial[2] : args.pixels;
  const int64_t tiles_of_row = (row + args.tile_pixels - 1) / args.tile_pixels;
  const int64_t at_a_time =
      blocks_at_a_time(device, plan.kernel.function, plan.threads(), plan.shared);
  // Counters of a block have 32 bits.
  const int64_t least = args.images * ((args.pixels >> 30) + 1);
  share_tiles(args, args.pixels / row * tiles_of_row,
              std::max(device.multiprocessors * at_a_time, least));
}

// ---- maps -----------------------------------------------------------------------------------
// Windows of up to 65 pixels find all columns of a piece in shared memory at once.
constexpr int kMapThreads = 256, kMostColumnsBeside = 64;

inline MapArguments map_arguments_of(const Problem& problem, const TallyProblem& counts,
                                     const Marks& marks, const TallyOutputs& outputs) {
  const int64_t c = problem.classes;
  MapArguments args{problem.labels, problem.mask, marks, outputs};
  const int64_t sizes[5] = {problem.images * kImageRows * c, c * c, 2 * counts.bins * kBinColumns,
                            c * counts.bins * kBinColumns, 1};
  std::copy(sizes, sizes + 5, args.output_sizes);
  args.images = problem.images;
  args.classes = c;
  std::copy(problem.spatial, problem.spatial + 3, args.spatial);
  args.ignore_index = problem.ignore_index;
  args.radius = problem.boundary_size / 2;
  return args;
}

inline void launch_over_map(MapArguments args, MapKernel kernel, const Device& device,
                            cudaStream_t stream) {
  const int64_t width = args.spatial[2];
  const int threads = int(std::min<int64_t>(kMapThreads, (width + kLanes - 1) / kLanes * kLanes));
  args.pieces_of_row = (width + threads - 1) / threads;
  args.pieces = args.images * args.spatial[0] * args.spatial[1] * args.pieces_of_row;
  args.reciprocal_pieces = 1.0 / double(args.pieces_of_row);
  args.reciprocal_height = 1.0 / double(args.spatial[1]);
  args.reciprocal_depth = 1.0 / double(args.spatial[0]);
  args.columns = threads + int(std::min<int64_t>(2 * args.radius, kMostColumnsBeside));
  const int64_t shared = args.radius ? args.columns * 2 * int64_t(sizeof(int)) : 0;
  const int64_t blocks = device.multiprocessors * blocks_at_a_time(device, kernel, threads, shared);
  launch(kernel, std::min(args.pieces, blocks), threads, shared, stream, args);
}

// ---- all of it ------------------------------------------------------------------------------
inline TallyArguments tally_arguments_of(const Problem& problem, const TallyProblem& counts,
                                         const Marks& marks, const TallyOutputs& outputs) {
  TallyArguments args;
  static_cast<Problem&>(args) = problem;
  args.labels = args.mask = {};  // the marks have them
  args.marks = marks;
  args.outputs = outputs;
  args.has_boundaries = problem.boundary_size > 1;
  args.calibration = counts.calibration;
  args.classwise = counts.classwise;
  args.bins = int(counts.bins);
  args.apart_from = problem.logits.dtype == DType::f64 ? apart_from<double>(counts.bins)
                                                       : apart_from<float>(counts.bins);
  return args;
}

// allocate(bytes) gives memory of the device for the marks.
template <typename Allocate>
void tally(const Problem& problem, const TallyProblem& counts, const Device& device,
           cudaStream_t stream, const TallyOutputs& outputs, Allocate allocate) {
  Marks marks;
  marks.bytes = Marks::bytes_for(problem.classes);
  marks.data = allocate(problem.images * problem.pixels * marks.bytes);
  const MapArguments map = map_arguments_of(problem, counts, marks, outputs);
  launch_over_map(map, mark_kernel(), device, stream);

  TallyArguments args = tally_arguments_of(problem, counts, marks, outputs);
  const TallyPlan plan = tally_plan_of(args, device);
  set_tally_parts(args, plan, device);
  launch(plan.kernel.function, args.images * args.parts, plan.threads(), plan.shared, stream, args);

  if (args.has_boundaries) launch_over_map(map, boundary_kernel(), device, stream);
}

}  // namespace jml::cuda
