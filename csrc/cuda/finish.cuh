// The kernels after the forward. finish_kernel adds up the blocks' partial sums, in a fixed order,
// and writes every column of the statistics, with 0 where it is not requested. formula_kernel makes
// the loss of them.
#pragma once

#include "arguments.cuh"
#include "team.cuh"

namespace jml::cuda {

constexpr int kFinishThreads = 1024, kFormulaThreads = 512;

// ---- statistics -----------------------------------------------------------------------------
// What a column of the statistics is made of: one slot of the partial sums (-1 makes it 0), or two
// slots, which are added up. Of a presence the sum only tells whether it is more than 0.
struct ColumnSource {
  int8_t slot = -1, second_slot = -1;
  bool is_maximum = false, is_presence = false;
};

// What a total of an image is made of: a BlockTotal (-1 makes it 0), times a factor.
struct TotalSource {
  int8_t block_total = -1;
  double factor = 1;
};

struct FinishArguments {
  const double* partials;
  int64_t partials_per_block;
  int parts, warps;
  int64_t images, classes, first_total;  // where the totals begin in a block's partial sums
  int targets;
  ColumnSource column_sources[2][kClassColumns];
  TotalSource total_sources[2][kTotals];
  double *sums, *extrema;  // (targets, columns, images, classes)
  double* totals;          // (targets, kTotals, images)
};

// Combines a number of each thread of a block, in one order; every thread gets the result.
template <typename Op>
JML_DEVICE double over_block(double value, double* memory) {
  memory[threadIdx.x] = value;
  __syncthreads();
  for (int step = int(blockDim.x) / 2; step > 0; step /= 2) {
    if (int(threadIdx.x) < step)
      memory[threadIdx.x] = Op::apply(memory[threadIdx.x], memory[threadIdx.x + step]);
    __syncthreads();
  }
  const double total = memory[0];
  __syncthreads();
  return total;
}

// A block makes one column of 32 classes of an image, or one of the image's totals. For a column,
// each lane takes a class, and the warps share out the blocks whose partial sums are added up.
__global__ void __launch_bounds__(kFinishThreads, 1)
    finish_kernel(const __grid_constant__ FinishArguments args) {
  constexpr int kWarps = kFinishThreads / kLanes;
  auto* const memory = reinterpret_cast<double*>(shared_memory());
  const int class_groups = int((args.classes + kLanes - 1) / kLanes);
  const int columns = args.targets * kClassColumns * class_groups;
  const int totals = args.targets * kTotals;
  const int jobs = columns + totals;
  const int64_t image = blockIdx.x / jobs;
  const int job = blockIdx.x % jobs;
  const double* const partials = args.partials + image * args.parts * args.partials_per_block;
  if (job >= columns) {
    const int i = job - columns;
    const TotalSource source = args.total_sources[i / kTotals][i % kTotals];
    double total = 0;
    for (int j = threadIdx.x; source.block_total >= 0 && j < args.parts * args.warps;
         j += kFinishThreads)
      total += partials[j / args.warps * args.partials_per_block + args.first_total +
                        j % args.warps * kBlockTotals + source.block_total];
    total = over_block<Add>(total, memory) * source.factor;
    if (threadIdx.x == 0) args.totals[i * args.images + image] = total;
    return;
  }
  const int column = job / class_groups % kClassColumns;
  const int target = job / class_groups / kClassColumns;
  const int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes;
  const int64_t c = int64_t(job % class_groups) * kLanes + lane;
  const ColumnSource source = args.column_sources[target][column];
  double total = 0;
  for (int part = warp; source.slot >= 0 && c < args.classes && part < args.parts;
       part += kWarps) {
    const double* const of_class = partials + part * args.partials_per_block + c;
    const double value = of_class[source.slot * args.classes];
    total = source.is_maximum ? Largest::apply(total, value) : total + value;
    if (source.second_slot >= 0) total += of_class[source.second_slot * args.classes];
  }
  memory[threadIdx.x] = total;
  __syncthreads();
  if (warp > 0 || c >= args.classes) return;
  for (int other = 1; other < kWarps; ++other) {
    const double value = memory[other * kLanes + lane];
    total = source.is_maximum ? Largest::apply(total, value) : total + value;
  }
  if (source.is_presence) total = total > 0 ? 1 : total;
  const bool is_sum = column < kSums;
  const int64_t row = is_sum ? target * kSums + column : target * kExtrema + column - kSums;
  (is_sum ? args.sums : args.extrema)[(row * args.images + image) * args.classes + c] = total;
}

// ---- formula --------------------------------------------------------------------------------
struct FormulaArguments {
  Formula formula;
  Term terms[2];
  int targets;
  int64_t images, classes;
  const double *sums, *extrema, *totals;
  double *grad_sums, *grad_totals;
  void* loss;
  bool is_double;
};

// The block as a team (../formula.h). A crew is a power of two of lanes of one warp.
struct Block {
  int64_t rank, size, crew, crews, crew_rank, crew_size;
  unsigned lanes;  // of the crew
  double* memory;

  // `shared_out` are what the threads of a crew share out: images, or classes. A crew has no more
  // threads than that, so that few of them have nothing to do.
  __device__ Block(int64_t shared_out, double* memory)
      : rank(threadIdx.x), size(blockDim.x), memory(memory) {
    crew_size = 1;
    while (crew_size < kLanes && 2 * crew_size <= shared_out) crew_size *= 2;
    crew = rank / crew_size;
    crews = size / crew_size;
    crew_rank = rank % crew_size;
    const int first_lane = int(rank - crew_rank) % kLanes;
    lanes = (kAllLanes >> (kLanes - crew_size)) << first_lane;
  }

  __device__ double sum(double value) const { return over_block<Add>(value, memory); }
  __device__ double sum_of_crew(double value) const {
    for (int offset = int(crew_size) / 2; offset > 0; offset /= 2)
      value += __shfl_xor_sync(lanes, value, offset);
    return value;
  }
};

// One block does it: these are a few operations on N x C numbers. Most of its time it waits for
// them to come from the cache, so that its threads take as many classes and images side by side as
// there are.
__global__ void __launch_bounds__(kFormulaThreads, 1)
    formula_kernel(const __grid_constant__ FormulaArguments args) {
  const int64_t n = args.images, c = args.classes;
  const bool of_images = args.formula.reduction == Reduction::image;
  const bool images_have_crews =
      of_images || (args.formula.dataset == 0 && args.formula.per_class == 0);
  Block block(images_have_crews ? c : n, reinterpret_cast<double*>(shared_memory()));
  const auto target_of = [&](int t) {
    return TargetStatistics{n,
                            c,
                            args.sums + t * kSums * n * c,
                            args.extrema + t * kExtrema * n * c,
                            args.totals + t * kTotals * n,
                            args.grad_sums + t * kSums * n * c,
                            args.grad_totals + t * kTotals * n};
  };
  const auto write = [&](int64_t i, double value) {
    if (args.is_double)
      static_cast<double*>(args.loss)[i] = value;
    else
      static_cast<float*>(args.loss)[i] = float(value);
  };
  for (int64_t i = block.rank; i < args.targets * kSums * n * c; i += block.size)
    args.grad_sums[i] = 0;
  for (int64_t i = block.rank; i < args.targets * kTotals * n; i += block.size)
    args.grad_totals[i] = 0;
  __syncthreads();  // others add to what a thread has written
  if (of_images) {
    for (int64_t i = block.crew; i < n; i += block.crews) {
      double value = 0;
      for (int t = 0; t < args.targets; ++t) {
        TargetStatistics target = target_of(t);
        value += add_term_of_image(block, args.formula, args.terms[t], target, i);
      }
      if (block.crew_rank == 0) write(i, value);
    }
    return;
  }
  double value = 0;
  for (int t = 0; t < args.targets; ++t) {
    TargetStatistics target = target_of(t);
    value += add_term(block, args.formula, args.terms[t], target);
  }
  if (block.rank == 0) write(0, value);
}

}  // namespace jml::cuda
