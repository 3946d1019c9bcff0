// Launches the CPU kernels: checks, views of the tensors, the cut into chunks, threads, and the
// sum of the chunks' partial sums in their order.
#include "operators.h"

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "../unpack.h"
#include "../tiles.h"
#include "arguments.h"
#include "faults.h"
#include "huge_pages.h"

namespace jml {
namespace {

// A chunk is long enough to be worth a thread's while and the partial sums of all chunks stay
// small; there are chunks enough for many threads. Only the shape decides.
constexpr int64_t kMostChunks = 256;
constexpr int64_t kPartialBytes = 512 * 1024;
// About half of a last-level cache.
constexpr int64_t kStreamedBytes = 16 * 1024 * 1024;

void cut(Arguments& args, int64_t partial_bytes) {
  const int compute_bytes = args.logits.dtype == DType::f64 ? 8 : 4;
  const int64_t tile_pixels = cpu_tile_pixels(args.classes, compute_bytes);
  const int64_t tiles = (args.pixels + tile_pixels - 1) / tile_pixels;
  const int64_t images = std::max<int64_t>(args.images, 1);
  const int64_t most = std::min(kMostChunks, kPartialBytes / std::max<int64_t>(partial_bytes, 1));
  const int64_t chunks = std::clamp<int64_t>(most / images, 1, std::max<int64_t>(tiles, 1));
  args.tile_pixels = tile_pixels;
  args.tiles_per_chunk = (tiles + chunks - 1) / chunks;
  args.chunks_per_image =
      args.tiles_per_chunk ? (tiles + args.tiles_per_chunk - 1) / args.tiles_per_chunk : 0;
}

// The arguments of the kernels, and what these point to.
struct KernelCall {
  Arguments args;
  std::vector<double> ce_class_weights, grad_sums, grad_totals;

  explicit KernelCall(const Inputs& inputs) {
    set_problem(args, inputs);
    if (!inputs.ce_class_weights) return;
    const ClassWeights weights =
        weights_of("ce_class_weights", inputs.ce_class_weights, inputs.logits);
    for (int64_t c = 0; c < args.classes; ++c) ce_class_weights.push_back(weights.at(c));
    args.ce_class_weights = ce_class_weights.data();
  }
};

double* numbers(const Tensor& tensor) { return static_cast<double*>(tensor.data_ptr()); }

Tensor zeros(const Tensor& logits, std::initializer_list<int64_t> size) {
  return torch::stable::new_zeros(logits, size, ScalarType::Double);
}

using Kernel = void (*)(const Arguments&, int64_t, int64_t);

struct Kernels {
  const char* name;
  Kernel statistics, backward;
};

const Kernels& kernels() {
  static const Kernels chosen = [] {
    const Kernels baseline{"baseline", baseline::statistics, baseline::statistics_backward};
#if defined(__x86_64__)
    const char* limit = std::getenv("JML_CPU_ISA");
    const std::string most = limit ? limit : "avx512";
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                      __builtin_cpu_supports("f16c");
    if (most == "avx512" && avx2 && __builtin_cpu_supports("avx512f") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
      return Kernels{"avx512", avx512::statistics, avx512::statistics_backward};
    if (most != "baseline" && avx2)
      return Kernels{"avx2", avx2::statistics, avx2::statistics_backward};
#endif
    return baseline;
  }();
  return chosen;
}

void run(const Arguments& args, Kernel kernel) {
  torch::stable::parallel_for(
      0, args.images * args.chunks_per_image, 1,
      [&](int64_t begin, int64_t end) { kernel(args, begin, end); });
}

// The sums of all chunks, in their order, of one target.
void add_chunks(const Arguments& args, int target, double* sum, double* extremum, double* total) {
  const int64_t n = args.images, c = args.classes;
  const Columns& columns = args.columns(target);
  for (int64_t chunk = 0; chunk < n * args.chunks_per_image; ++chunk) {
    const int64_t image = chunk / args.chunks_per_image;
    const double* part =
        args.partial + chunk * args.partial_size() + args.partial_offset(target);
    for (int column = 0; column < kClassColumns; ++column) {
      if (!columns.requested(column)) continue;
      const double* from = part + columns.slot(column) * c;
      if (column < kSums) {
        double* to = sum + (column * n + image) * c;
        for (int64_t i = 0; i < c; ++i) to[i] += from[i];
      } else {
        double* to = extremum + ((column - kSums) * n + image) * c;
        for (int64_t i = 0; i < c; ++i) to[i] = max_or_nan(to[i], from[i]);
      }
    }
    const double* totals = part + columns.size(c) - kTotals;
    for (int i = 0; i < kTotals; ++i) total[i * n + image] += totals[i];
  }
}

}  // namespace

std::string cpu_instruction_set() { return kernels().name; }

ThreeTensors Cpu::statistics(const Inputs& inputs) {
  const Tensor& logits = inputs.logits;
  KernelCall call(inputs);
  Arguments& args = call.args;
  cut(args, args.partial_size() * int64_t(sizeof(double)));
  const int64_t chunks = args.images * args.chunks_per_image;
  const Tensor partial =
      torch::stable::new_empty(logits, {chunks, args.partial_size()}, ScalarType::Double);
  std::vector<Faults> faults(chunks);
  args.partial = numbers(partial);
  args.faults = faults.data();
  run(args, kernels().statistics);
  check_faults(args, inputs);

  const int64_t targets = args.targets(), n = args.images, c = args.classes;
  const Tensor sums = zeros(logits, {targets, kSums, n, c});
  const Tensor extrema = zeros(logits, {targets, kExtrema, n, c});
  const Tensor totals = zeros(logits, {targets, kTotals, n});
  for (int target = 0; target < targets; ++target)
    add_chunks(args, target, numbers(sums) + target * kSums * n * c,
               numbers(extrema) + target * kExtrema * n * c,
               numbers(totals) + target * kTotals * n);
  return {sums, extrema, totals};
}

ThreeTensors Cpu::loss(const Inputs& inputs, const FormulaInputs& formula_inputs) {
  const Tensor& logits = inputs.logits;
  const FormulaOfTerms terms = formula_of(logits, formula_inputs);
  const auto [sums, extrema, totals] = statistics(inputs);
  const int64_t targets = sums.size(0), n = sums.size(2), c = sums.size(3);
  const Tensor grad_sums = zeros(logits, {targets, kSums, n, c});
  const Tensor grad_totals = zeros(logits, {targets, kTotals, n});
  const bool of_images = terms.formula.reduction == Reduction::image;
  std::vector<double> values(of_images ? n : 1);
  for (int64_t t = 0; t < targets; ++t) {
    TargetStatistics target{n,
                            c,
                            numbers(sums) + t * kSums * n * c,
                            numbers(extrema) + t * kExtrema * n * c,
                            numbers(totals) + t * kTotals * n,
                            numbers(grad_sums) + t * kSums * n * c,
                            numbers(grad_totals) + t * kTotals * n};
    const Term& term = terms.of_target(inputs.labels.has_value(), t);
    Alone alone;
    if (!of_images) values[0] += add_term(alone, terms.formula, term, target);
    for (int64_t i = 0; of_images && i < n; ++i)
      values[i] += add_term_of_image(alone, terms.formula, term, target, i);
  }
  const Tensor loss = new_loss(logits, of_images);
  if (loss.scalar_type() == ScalarType::Double)
    std::copy(values.begin(), values.end(), numbers(loss));
  else
    std::copy(values.begin(), values.end(), static_cast<float*>(loss.data_ptr()));
  return {loss, grad_sums, grad_totals};
}

Tensor Cpu::new_gradient(const Tensor& logits) {
  const Tensor grad = torch::stable::empty_like(logits);
  ask_for_huge_pages(grad.data_ptr(), grad.numel() * grad.element_size());
  return grad;
}

void Cpu::write_gradient(const GradientInputs& gradients, const Inputs& inputs,
                         const Tensor& grad) {
  KernelCall call(inputs);
  Arguments& args = call.args;
  check_gradients(gradients, inputs);
  args.grad = view_of("gradient", grad, true);
  const ClassWeights scale = weights_of("scale", gradients.scale, inputs.logits);
  // (..., images, numbers of an image)
  const auto scaled = [&](const Tensor& gradient, int64_t numbers_of_image) {
    std::vector<double> result(numbers(gradient), numbers(gradient) + gradient.numel());
    for (size_t i = 0; i < result.size(); ++i)
      result[i] *= scale.at(int64_t(i) / numbers_of_image % args.images);
    return result;
  };
  call.grad_sums = scaled(gradients.sums, args.classes);
  call.grad_totals = scaled(gradients.totals, 1);
  args.grad_sums = call.grad_sums.data();
  args.grad_totals = call.grad_totals.data();
  args.stream_gradient =
      args.images * args.classes * args.pixels * args.grad.element_bytes() >= kStreamedBytes;
  cut(args, 0);
  run(args, kernels().backward);
}

}  // namespace jml
