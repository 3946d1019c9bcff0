// The operators of the losses: what their kernels are launched with (launch.h), and the sum of the
// chunks' partial sums in their order.
#include "operators.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "faults.h"
#include "huge_pages.h"
#include "launch.h"

namespace jml {
namespace {

// About half of a last-level cache.
constexpr int64_t kStreamedBytes = 16 * 1024 * 1024;

double* numbers(const Tensor& tensor) { return static_cast<double*>(tensor.data_ptr()); }

Tensor zeros(const Tensor& logits, std::initializer_list<int64_t> size) {
  return torch::stable::new_zeros(logits, size, ScalarType::Double);
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
