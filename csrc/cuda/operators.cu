// The CUDA operators: checks, memory, the current stream of the tensors' device; launch.cuh does the
// rest. Nothing here waits for the device.
#if !defined(JML_CUDA_EMULATION)
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/headeronly/util/shim_utils.h>
#endif

#include "../unpack.h"
#include "tally_launch.cuh"

namespace jml {

// The CUDA backend: its functions for the operators (../operators.h).
struct Cuda {
  static ThreeTensors statistics(const Inputs& inputs);
  static ThreeTensors loss(const Inputs& inputs, const FormulaInputs& formula);
  static Tensor new_gradient(const Tensor& logits);
  static void write_gradient(const GradientInputs& gradients, const Inputs& inputs,
                             const Tensor& grad);
  static FiveTensors tally(const TallyInputs& inputs);
};

namespace {

using cuda::Arguments;

// Makes the device of a tensor the current one, and knows its current stream.
struct OnDevice {
#if defined(JML_CUDA_EMULATION)
  explicit OnDevice(const Tensor&) {}
  cudaStream_t stream = nullptr;
  int index = 0;
#else
  explicit OnDevice(const Tensor& tensor)
      : guard(tensor.get_device_index()), index(tensor.get_device_index()) {
    void* current = nullptr;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(index, &current));
    stream = static_cast<cudaStream_t>(current);
  }
  torch::stable::accelerator::DeviceGuard guard;
  cudaStream_t stream = nullptr;
  int index;
#endif
};

double* numbers(const Tensor& tensor) { return static_cast<double*>(tensor.data_ptr()); }

Arguments arguments_of(const Inputs& inputs) {
  Arguments args;
  set_problem(args, inputs);
  args.ce_class_weights = weights_of("ce_class_weights", inputs.ce_class_weights, inputs.logits);
  return args;
}

Tensor make(const Tensor& logits, std::initializer_list<int64_t> size, bool zero) {
  return zero ? torch::stable::new_zeros(logits, size, ScalarType::Double)
              : torch::stable::new_empty(logits, size, ScalarType::Double);
}

ThreeTensors statistics_of(const Tensor& logits, const Arguments& args, const OnDevice& on) {
  const int64_t targets = args.targets(), n = args.images, c = args.classes;
  const bool empty = n == 0 || args.pixels == 0;
  const Tensor sums = make(logits, {targets, kSums, n, c}, empty);
  const Tensor extrema = make(logits, {targets, kExtrema, n, c}, empty);
  const Tensor totals = make(logits, {targets, kTotals, n}, empty);
  if (!empty) {
    std::optional<Tensor> partials;  // freed in the order of the stream
    cuda::forward(args, cuda::device_of(on.index), on.stream,
                  {numbers(sums), numbers(extrema), numbers(totals)}, [&](int64_t count) {
                    partials = make(logits, {count}, false);
                    return numbers(*partials);
                  });
  }
  return {sums, extrema, totals};
}

}  // namespace

ThreeTensors Cuda::statistics(const Inputs& inputs) {
  const Arguments args = arguments_of(inputs);
  return statistics_of(inputs.logits, args, OnDevice(inputs.logits));
}

ThreeTensors Cuda::loss(const Inputs& inputs, const FormulaInputs& formula_inputs) {
  const Tensor& logits = inputs.logits;
  const FormulaOfTerms terms = formula_of(logits, formula_inputs);
  const Arguments args = arguments_of(inputs);
  const OnDevice on(logits);
  const auto [sums, extrema, totals] = statistics_of(logits, args, on);
  const int64_t targets = args.targets(), n = args.images, c = args.classes;
  const Tensor grad_sums = make(logits, {targets, kSums, n, c}, false);
  const Tensor grad_totals = make(logits, {targets, kTotals, n}, false);
  const Tensor loss = new_loss(logits, terms.formula.reduction == Reduction::image);
  cuda::FormulaArguments launch{
      terms.formula,
      {terms.of_target(args.has_labels(), 0), terms.of_target(args.has_labels(), 1)},
      int(targets),
      n,
      c,
      numbers(sums),
      numbers(extrema),
      numbers(totals),
      numbers(grad_sums),
      numbers(grad_totals),
      loss.data_ptr(),
      loss.scalar_type() == ScalarType::Double};
  cuda::formula(launch, on.stream);
  return {loss, grad_sums, grad_totals};
}

Tensor Cuda::new_gradient(const Tensor& logits) { return torch::stable::empty_like(logits); }

void Cuda::write_gradient(const GradientInputs& gradients, const Inputs& inputs,
                          const Tensor& grad) {
  Arguments args = arguments_of(inputs);
  check_gradients(gradients, inputs);
  args.grad = view_of("gradient", grad, true);
  args.grad_sums = numbers(gradients.sums);
  args.grad_totals = numbers(gradients.totals);
  args.scale = weights_of("scale", gradients.scale, inputs.logits);
  if (args.images == 0 || args.pixels == 0) return;
  STD_TORCH_CHECK(!args.upsample || args.grad.data != args.logits.data,
                  "inplace_backward: expected no upsampling, which reads logits more than once");
  const OnDevice on(inputs.logits);
  cuda::backward(args, cuda::device_of(on.index), on.stream);
}

FiveTensors Cuda::tally(const TallyInputs& inputs) {
  const Tensor& logits = inputs.logits;
  jml::Problem problem;
  const TallyProblem counts = set_tally_problem(problem, inputs);
  const int64_t n = problem.images, c = problem.classes;
  const bool empty = n == 0 || problem.pixels == 0;
  const auto make_counts = [&](std::initializer_list<int64_t> size) {
    return empty ? torch::stable::new_zeros(logits, size, ScalarType::Long)
                 : torch::stable::new_empty(logits, size, ScalarType::Long);
  };
  const Tensor of_images = make_counts({n, cuda::kImageRows, c}), confusion = make_counts({c, c}),
               calibration = make_counts({2, counts.bins, cuda::kBinColumns}),
               classwise = make_counts({c, counts.bins, cuda::kBinColumns}),
               wrong = make_counts({1});
  if (!empty) {
    const auto memory = [](const Tensor& tensor) {
      return static_cast<cuda::Count*>(tensor.data_ptr());
    };
    const OnDevice on(logits);
    std::optional<Tensor> marks;  // freed in the order of the stream
    cuda::tally(problem, counts, cuda::device_of(on.index), on.stream,
                {memory(of_images), memory(confusion), memory(calibration), memory(classwise),
                 memory(wrong)},
                [&](int64_t bytes) {
                  marks = torch::stable::new_empty(logits, {bytes}, ScalarType::Byte);
                  return marks->data_ptr();
                });
  }
  return {of_images, confusion, calibration, classwise, wrong};
}

}  // namespace jml

// Under emulation, where there is no GPU, tensors of the CPU take its place.
#if defined(JML_CUDA_EMULATION)
STABLE_TORCH_LIBRARY_IMPL(jml_kernels, CPU, m) {
#else
STABLE_TORCH_LIBRARY_IMPL(jml_kernels, CUDA, m) {
#endif
  JML_REGISTER(m, "cuda", jml::Cuda);
  JML_REGISTER_TALLY(m, "cuda", jml::Cuda);
}
