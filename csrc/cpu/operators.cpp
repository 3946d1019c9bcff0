// Launches the CPU kernels: checks, views of the tensors, the cut into chunks, threads, and the
// sum of the chunks' partial sums in their order.
#include "operators.h"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <optional>
#include <vector>

#include "../unpack.h"
#include "chunks.h"
#include "faults.h"
#include "huge_pages.h"
#include "kernels.h"
#include "shared_rows.h"

namespace jml {
namespace {

// Low rows of a gradient that chunks share may take this, or 15 % of the gradient.
constexpr int64_t kSharedBytes = 512 * 1024;
// About half of a last-level cache.
constexpr int64_t kStreamedBytes = 16 * 1024 * 1024;

int64_t shared_row_bytes(const Arguments& args) {
  return computes_in_double(args) ? SharedRows<double>::size(args) * int64_t(sizeof(double))
                                  : SharedRows<float>::size(args) * int64_t(sizeof(float));
}

void add_shared_rows(const Arguments& args) {
  if (computes_in_double(args))
    SharedRows<double>(args).add_up();
  else
    SharedRows<float>(args).add_up();
}

// The same where logits are interpolated: whole rows, which lie between `low` low ones. `least` is how
// many of these a chunk has at least.
void cut_rows(Arguments& args, int64_t low, int64_t least, int64_t partial_bytes) {
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
void cut_row_tiles(Arguments& args, int64_t partial_bytes, std::vector<int64_t>& first) {
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
void cut_cells(Arguments& args, int64_t partial_bytes) {
  const int64_t count = args.cells->count();
  args.rows.low_of_first = args.cells->first_low;
  cut_rows(args, count, std::clamp<int64_t>(args.images * count / 64, 1, 8), partial_bytes);
}

// What the kernels that take pixels by cells can do (upsample/kernel.h). At lower ratios than 2
// there is no gain.
bool fits_cells(const Arguments& args, bool has_class_weights) {
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

double* numbers(const Tensor& tensor) { return static_cast<double*>(tensor.data_ptr()); }

Tensor zeros(const Tensor& logits, std::initializer_list<int64_t> size) {
  return torch::stable::new_zeros(logits, size, ScalarType::Double);
}

}  // namespace

#define JML_KERNELS(isa)                                                              \
  Kernels {                                                                           \
    #isa, isa::statistics, isa::statistics_backward, isa::upsampled_statistics,       \
        isa::upsampled_statistics_backward, isa::lovasz_gaps                          \
  }

const Kernels& kernels() {
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

void run(const Arguments& args, Kernel kernel) {
  torch::stable::parallel_for(
      0, args.images * args.chunks_per_image, 1,
      [&](int64_t begin, int64_t end) { kernel(args, begin, end); });
}

namespace {

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
  std::unique_ptr<double[]> partial;
  std::vector<Faults> faults;
  do {
    call.cut(args.partial_size() * int64_t(sizeof(double)));
    const int64_t chunks = args.images * args.chunks_per_image;
    partial.reset(new double[chunks * args.partial_size()]);
    faults.resize(chunks);
    args.partial = partial.get();
    args.faults = faults.data();
    run(args, call.by_cells() ? kernels().upsampled_statistics : kernels().statistics);
  } while (call.is_to_be_repeated());
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
  STD_TORCH_CHECK(!args.logits_upsampling || grad.numel() == 0 ||
                      grad.data_ptr() != inputs.logits.data_ptr(),
                  "inplace_backward: expected no upsampling, which reads logits more than once");
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
  do {
    call.cut(0);
    run(args, call.by_cells() ? kernels().upsampled_backward : kernels().backward);
    if (args.shared_rows) add_shared_rows(args);
  } while (call.is_to_be_repeated());
}

}  // namespace jml
