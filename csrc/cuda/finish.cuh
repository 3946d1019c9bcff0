// The kernels after the forward: adds the blocks' partial sums up, in a fixed order, and writes
// every column of the statistics, 0 where it is not asked for; then the formula.
#pragma once

#include "arguments.cuh"
#include "team.cuh"

namespace jml::cuda {

constexpr int kFinishThreads = 1024, kFormulaThreads = 256;

// ---- statistics -----------------------------------------------------------------------------
// What a column is made of: one slot; or two, which are added up, or tell by their sum whether
// there is anything at all.
struct Source {
  int8_t slot = -1, more = -1;
  bool is_maximum = false, is_presence = false;
};

// The sum per image of `total` over blocks and warps, times a factor; -1 for 0.
struct TotalSource {
  int8_t total = -1;
  double factor = 1;
};

struct FinishArguments {
  const double* partials;
  int64_t row;
  int parts, warps;
  int64_t images, classes, first_total;  // where a row's totals begin
  int targets;
  Source columns[2][kClassColumns];
  TotalSource totals[2][kTotals];
  double *sums, *extrema, *total_out;  // (targets, columns, images, classes), (targets, totals, images)
};

// Over the threads of a block, one after the other: every thread gets it.
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

// A block makes one column of 32 classes of an image, a warp's lane for each and the warps for the
// rows of partial sums; or one of the image's totals.
__global__ void __launch_bounds__(kFinishThreads, 1)
    finish_kernel(const __grid_constant__ FinishArguments args) {
  constexpr int kRows = kFinishThreads / kLanes;
  auto* const memory = reinterpret_cast<double*>(shared_memory());
  const int blocks = int((args.classes + kLanes - 1) / kLanes);
  const int columns = args.targets * kClassColumns * blocks, totals = args.targets * kTotals;
  const int jobs = columns + totals;
  const int64_t image = blockIdx.x / jobs;
  const int job = blockIdx.x % jobs;
  const double* const partials = args.partials + image * args.parts * args.row;
  if (job >= columns) {
    const int i = job - columns;
    const TotalSource source = args.totals[i / kTotals][i % kTotals];
    double total = 0;
    for (int j = threadIdx.x; source.total >= 0 && j < args.parts * args.warps;
         j += kFinishThreads)
      total += partials[j / args.warps * args.row + args.first_total +
                        j % args.warps * kBlockTotals + source.total];
    total = over_block<Add>(total, memory) * source.factor;
    if (threadIdx.x == 0) args.total_out[i * args.images + image] = total;
    return;
  }
  const int column = job / blocks % kClassColumns, target = job / blocks / kClassColumns;
  const int lane = threadIdx.x % kLanes, first = threadIdx.x / kLanes;
  const int64_t c = int64_t(job % blocks) * kLanes + lane;
  const Source source = args.columns[target][column];
  double total = 0;
  for (int part = first; source.slot >= 0 && c < args.classes && part < args.parts;
       part += kRows) {
    const double* const row = partials + part * args.row + c;
    const double value = row[source.slot * args.classes];
    total = source.is_maximum ? Largest::apply(total, value) : total + value;
    if (source.more >= 0) total += row[source.more * args.classes];
  }
  memory[threadIdx.x] = total;
  __syncthreads();
  if (first > 0 || c >= args.classes) return;
  for (int row = 1; row < kRows; ++row) {
    const double value = memory[row * kLanes + lane];
    total = source.is_maximum ? Largest::apply(total, value) : total + value;
  }
  if (source.is_presence) total = total > 0 ? 1 : total;
  const bool is_sum = column < kSums;
  const int64_t at = is_sum ? target * kSums + column : target * kExtrema + column - kSums;
  (is_sum ? args.sums : args.extrema)[(at * args.images + image) * args.classes + c] = total;
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

struct Block {
  int64_t rank, size;
  double* memory;

  __device__ double sum(double value) const { return over_block<Add>(value, memory); }
};

// One block: a few operations on N x C numbers.
__global__ void __launch_bounds__(kFormulaThreads, 1)
    formula_kernel(const __grid_constant__ FormulaArguments args) {
  Block block{threadIdx.x, blockDim.x, reinterpret_cast<double*>(shared_memory())};
  const int64_t n = args.images, c = args.classes;
  double value = 0;
  for (int t = 0; t < args.targets; ++t) {
    TargetStatistics target{n,
                            c,
                            args.sums + t * kSums * n * c,
                            args.extrema + t * kExtrema * n * c,
                            args.totals + t * kTotals * n,
                            args.grad_sums + t * kSums * n * c,
                            args.grad_totals + t * kTotals * n};
    // As the formula shares classes and images out: who adds to a number has written its 0.
    for (int64_t k = block.rank; k < c; k += block.size)
      for (int64_t i = 0; i < kSums * n; ++i) target.grad_sums[i * c + k] = 0;
    for (int64_t i = block.rank; i < n; i += block.size)
      for (int total = 0; total < kTotals; ++total) target.grad_totals[total * n + i] = 0;
    value += add_term(block, args.formula, args.terms[t], target);
  }
  if (threadIdx.x != 0) return;
  if (args.is_double)
    *static_cast<double*>(args.loss) = value;
  else
    *static_cast<float*>(args.loss) = float(value);
}

}  // namespace jml::cuda
