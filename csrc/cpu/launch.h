// What every launcher does: the arguments of its kernels, the cut into chunks, the instruction set,
// threads.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "../tiles.h"
#include "../unpack.h"
#include "arguments.h"
#include "shared_rows.h"
#include "tally_arguments.h"

namespace jml {

// A chunk is long enough to be worth a thread's while and the partial sums of all chunks stay
// small; there are chunks enough for many threads. Only the shape decides.
constexpr int64_t kMostChunks = 256;
constexpr int64_t kPartialBytes = 512 * 1024;
// Low rows of a gradient that chunks share may take this, or 15 % of the gradient.
constexpr int64_t kSharedBytes = 512 * 1024;

inline bool computes_in_double(const Problem& problem) { return problem.logits.dtype == DType::f64; }

inline int64_t shared_row_bytes(const Arguments& args) {
  return computes_in_double(args) ? SharedRows<double>::size(args) * int64_t(sizeof(double))
                                  : SharedRows<float>::size(args) * int64_t(sizeof(float));
}

inline void add_shared_rows(const Arguments& args) {
  if (computes_in_double(args))
    SharedRows<double>(args).add_up();
  else
    SharedRows<float>(args).add_up();
}

inline int64_t divide_up(int64_t number, int64_t divisor) { return (number + divisor - 1) / divisor; }

// Chunks of an image of which each has so many bytes of partial sums, and that has so many pieces.
inline int64_t chunks_of_image(const Arguments& args, int64_t partial_bytes, int64_t pieces) {
  const int64_t images = std::max<int64_t>(args.images, 1);
  const int64_t most = std::min(kMostChunks, kPartialBytes / std::max<int64_t>(partial_bytes, 1));
  return std::clamp<int64_t>(most / images, 1, std::max<int64_t>(pieces, 1));
}

inline void cut_tiles(Arguments& args, int64_t partial_bytes) {
  args.tile_pixels = cpu_tile_pixels(args.classes, computes_in_double(args) ? 8 : 4);
  const int64_t tiles = divide_up(args.pixels, args.tile_pixels);
  args.tiles_per_chunk = divide_up(tiles, chunks_of_image(args, partial_bytes, tiles));
  args.chunks_per_image = tiles ? divide_up(tiles, args.tiles_per_chunk) : 0;
}

// The same where logits are interpolated: whole rows, which lie between `low` low ones. `least` is how
// many of these a chunk has at least.
inline void cut_rows(Arguments& args, int64_t low, int64_t least, int64_t partial_bytes) {
  const auto cut_into = [&](int64_t chunks) {
    args.rows.low_per_chunk = divide_up(low, chunks);
    args.chunks_per_image = divide_up(low, args.rows.low_per_chunk);
  };
  const int64_t most = std::clamp<int64_t>(low / least, 1, low);
  cut_into(std::min(most, chunks_of_image(args, partial_bytes, low)));
  if (!args.grad.given || !args.logits_upsampling) return;
  // The parts of low rows that chunks share are to be small.
  const int64_t gradient_bytes = args.images * args.classes *
                                 args.logits_upsampling->low_pixels() * args.grad.element_bytes();
  while (args.chunks_per_image > 1 &&
         shared_row_bytes(args) > std::max<int64_t>(kSharedBytes, gradient_bytes * 3 / 20))
    cut_into(args.chunks_per_image / 2);
}

// Tiles of rows.
inline void cut_row_tiles(Arguments& args, int64_t partial_bytes, std::vector<int64_t>& first) {
  const int64_t height = args.spatial[1], width = args.spatial[2];
  args.tile_pixels = cpu_tile_pixels(args.classes, computes_in_double(args) ? 8 : 4);
  args.rows.per_tile = std::max<int64_t>(1, args.tile_pixels / width);
  args.rows.tiles_per_row = args.rows.per_tile > 1 ? 1 : divide_up(width, args.tile_pixels);
  args.rows.low_of_first = 0;
  const Upsampling* upsampling = args.logits_upsampling;
  const bool has_rows = upsampling && upsampling->axis[1].given;
  const int64_t low = has_rows ? upsampling->low(1) : height;
  cut_rows(args, low, divide_up(2 * args.tile_pixels * low, args.pixels), partial_bytes);
  first.clear();
  for (int64_t k = 0; k < args.chunks_per_image; ++k) {
    const int64_t row = k * args.rows.low_per_chunk;
    first.push_back(has_rows ? upsampling->axis[1].pixels_before(row) : row);
  }
  first.push_back(height);
  args.rows.first = first.data();
}

// Cells. Each chunk loads its low rows, one of which the next chunk loads again.
inline void cut_cells(Arguments& args, int64_t partial_bytes) {
  const int64_t count = args.cells->count();
  args.rows.low_of_first = args.cells->first_low;
  cut_rows(args, count, std::clamp<int64_t>(args.images * count / 64, 1, 8), partial_bytes);
}

// What the kernels that take pixels by cells can do (upsample/kernel.h). At lower ratios than 2
// there is no gain.
inline bool fits_cells(const Arguments& args, bool has_class_weights) {
  const Upsampling* upsampling = args.logits_upsampling;
  if (!upsampling || upsampling->axis[0].given || !upsampling->axis[1].given) return false;
  Columns others = args.label_columns;
  for (int column : {kTruePositive, kFalsePositive, kFalseNegative, kIntersection, kTargetMax,
                     kPresent, kCounted, kCrossEntropy, kCrossEntropyWeight, kValid})
    others.bits &= ~(int64_t{1} << column);
  return args.activation == Activation::softmax && !args.has_dense() && others.bits == 0 &&
         !computes_in_double(args) && args.label_smoothing < 1 && !has_class_weights &&
         args.spatial[1] >= 2 * upsampling->low(1) && args.spatial[2] >= 2 * upsampling->low(2);
}

// The arguments of the kernels, and what these point to.
struct KernelCall {
  Arguments args;
  std::vector<double> ce_class_weights, grad_sums, grad_totals;
  Upsampling of_logits, of_dense;
  std::optional<Cells> cells;
  std::vector<int64_t> first_rows;
  std::unique_ptr<char[]> shared_rows;
  std::vector<uint8_t> unfit;

  explicit KernelCall(const Inputs& inputs) {
    set_problem(args, inputs);
    const int64_t rank = inputs.logits.dim() - 2;
    args.logits_upsampling = upsampling(of_logits, args.logits_spatial, rank);
    if (args.has_dense())
      args.dense_upsampling = upsampling(of_dense, args.dense_spatial, rank);
    if (fits_cells(args, inputs.ce_class_weights.has_value()))
      args.cells = &cells.emplace(args.logits_spatial[1], args.spatial[1], args.align_corners);
    if (!inputs.ce_class_weights) return;
    const ClassWeights weights =
        weights_of("ce_class_weights", inputs.ce_class_weights, inputs.logits);
    for (int64_t c = 0; c < args.classes; ++c) ce_class_weights.push_back(weights.at(c));
    args.ce_class_weights = ce_class_weights.data();
  }

  // Chunks that have so many bytes of partial sums each.
  void cut(int64_t partial_bytes) {
    if (args.pixels == 0) return;  // no chunks
    if (!args.upsample)
      cut_tiles(args, partial_bytes);
    else if (by_cells())
      cut_cells(args, partial_bytes);
    else
      cut_row_tiles(args, partial_bytes, first_rows);
    unfit.assign(args.images * args.chunks_per_image, 0);
    args.unfit = unfit.data();
    if (!args.grad.given || !args.logits_upsampling) return;
    shared_rows.reset(new char[shared_row_bytes(args)]);
    args.shared_rows = shared_rows.get();
  }

  bool by_cells() const { return args.cells != nullptr; }

  // Whether the kernels that take cells had logits that they cannot take. It is by tiles from now on.
  bool is_to_be_repeated() {
    const bool repeat = std::count(unfit.begin(), unfit.end(), 1) > 0;
    if (repeat) args.cells = nullptr;
    return repeat;
  }

 private:
  // Null where a tensor has the full size already.
  const Upsampling* upsampling(Upsampling& result, const int64_t low[3], int64_t rank) const {
    if (std::equal(low, low + 3, args.spatial)) return nullptr;
    result = upsampling_of(low, args.spatial, rank, args.align_corners);
    return &result;
  }
};

using Kernel = void (*)(const Arguments&, int64_t, int64_t);
using TallyKernel = void (*)(const TallyArguments&, int64_t, int64_t);

struct Kernels {
  const char* name;
  Kernel statistics, backward;
  Kernel upsampled_statistics, upsampled_backward;  // by cells
  TallyKernel map_labels, tally, tally_boundaries;
  Kernel lovasz_gaps;
};

#define JML_KERNELS(isa)                                                              \
  Kernels {                                                                           \
    #isa, isa::statistics, isa::statistics_backward, isa::upsampled_statistics,       \
        isa::upsampled_statistics_backward, isa::map_labels, isa::tally,              \
        isa::tally_boundaries, isa::lovasz_gaps                                       \
  }

inline const Kernels& kernels() {
  static const Kernels chosen = [] {
    const Kernels baseline = JML_KERNELS(baseline);
#if defined(__x86_64__)
    const char* limit = std::getenv("JML_CPU_ISA");
    const std::string most = limit ? limit : "avx512";
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                      __builtin_cpu_supports("f16c");
    if (most == "avx512" && avx2 && __builtin_cpu_supports("avx512f") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
      return JML_KERNELS(avx512);
    if (most != "baseline" && avx2)
      return JML_KERNELS(avx2);
#endif
    return baseline;
  }();
  return chosen;
}

// Calls a kernel for the chunks of all images, on some threads.
template <typename Of>
void run(const Arguments& args, const Of& of, void (*kernel)(const Of&, int64_t, int64_t)) {
  torch::stable::parallel_for(0, args.images * args.chunks_per_image, 1,
                              [&](int64_t begin, int64_t end) { kernel(of, begin, end); });
}
inline void run(const Arguments& args, Kernel kernel) { run(args, args, kernel); }

#undef JML_KERNELS

}  // namespace jml
