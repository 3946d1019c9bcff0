// The CUDA operators: checks, memory, the current stream of the tensors' device; launch.cuh does the
// rest. Nothing here waits for the device.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#if !defined(JML_CUDA_EMULATION)
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/headeronly/util/shim_utils.h>
#endif

#include "../call.h"
#include "launch.cuh"

namespace jml {

struct Cuda {};
using CudaOperators = Operators<Cuda, JML_RULE>;

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

template <typename... Rule>
Arguments arguments_of(const Tensor& logits, const Rule&... rule) {
  Arguments args;
  set_problem(args, logits, rule...);
  args.ce_class_weights =
      weights_of("ce_class_weights", std::get<3>(std::tie(rule...)), logits);
  return args;
}

Tensor make(const Tensor& logits, std::initializer_list<int64_t> size, bool zero) {
  return zero ? torch::stable::new_zeros(logits, size, ScalarType::Double)
              : torch::stable::new_empty(logits, size, ScalarType::Double);
}

std::tuple<Tensor, Tensor, Tensor> statistics_of(const Tensor& logits, const Arguments& args,
                                                 const OnDevice& on) {
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

template <typename... Rule>
void write_gradient(const Tensor& grad_sums, const Tensor& grad_totals, const Tensor& logits,
                    const Tensor& grad, const std::optional<Tensor>& scale, const Rule&... rule) {
  Arguments args = arguments_of(logits, rule...);
  check_gradients(grad_sums, grad_totals, logits, args.targets(), scale);
  args.grad = view_of("gradient", grad, true);
  args.grad_sums = numbers(grad_sums);
  args.grad_totals = numbers(grad_totals);
  args.scale = weights_of("scale", scale, logits);
  if (args.images == 0 || args.pixels == 0) return;
  const OnDevice on(logits);
  cuda::backward(args, cuda::device_of(on.index), on.stream);
}

}  // namespace

template <typename Backend, typename... Rule>
std::tuple<Tensor, Tensor, Tensor> Operators<Backend, Rule...>::statistics(const Tensor& logits,
                                                                           Rule... rule, bool) {
  const Arguments args = arguments_of(logits, rule...);
  return statistics_of(logits, args, OnDevice(logits));
}

template <typename Backend, typename... Rule>
std::tuple<Tensor, Tensor, Tensor> Operators<Backend, Rule...>::loss(const Tensor& logits,
                                                                     Rule... rule, JML_FORMULA,
                                                                     bool) {
  auto [formula, of_labels, of_dense] = formula_call(
      logits, class_weights, overlap, alpha, beta, gamma, smooth, log_loss, dataset, image,
      per_class, active_threshold, label_active, dense_active, label_ce, dense_ce, label_overlap,
      dense_overlap, divergence);
  formula.class_weights = weights_of("class_weights", class_weights, logits);
  const Arguments args = arguments_of(logits, rule...);
  const OnDevice on(logits);
  const auto [sums, extrema, totals] = statistics_of(logits, args, on);
  const int64_t targets = args.targets(), n = args.images, c = args.classes;
  const Tensor grad_sums = make(logits, {targets, kSums, n, c}, false);
  const Tensor grad_totals = make(logits, {targets, kTotals, n}, false);
  const bool is_double = logits.scalar_type() == ScalarType::Double;
  const Tensor loss = torch::stable::new_empty(logits, std::initializer_list<int64_t>{},
                                               is_double ? ScalarType::Double : ScalarType::Float);
  cuda::FormulaArguments launch{formula,
                                {args.has_labels() ? of_labels : of_dense, of_dense},
                                int(targets),
                                n,
                                c,
                                numbers(sums),
                                numbers(extrema),
                                numbers(totals),
                                numbers(grad_sums),
                                numbers(grad_totals),
                                loss.data_ptr(),
                                is_double};
  cuda::formula(launch, on.stream);
  return {loss, grad_sums, grad_totals};
}

template <typename Backend, typename... Rule>
Tensor Operators<Backend, Rule...>::backward(const Tensor& grad_sums, const Tensor& grad_totals,
                                             const Tensor& logits, Rule... rule,
                                             const std::optional<Tensor>& scale) {
  Tensor grad = torch::stable::empty_like(logits);
  write_gradient(grad_sums, grad_totals, logits, grad, scale, rule...);
  return grad;
}

template <typename Backend, typename... Rule>
void Operators<Backend, Rule...>::backward_inplace(const Tensor& grad_sums,
                                                   const Tensor& grad_totals,
                                                   const Tensor& logits, Rule... rule,
                                                   const std::optional<Tensor>& scale) {
  check_not_expanded(logits);
  write_gradient(grad_sums, grad_totals, logits, logits, scale, rule...);
}

template struct Operators<Cuda, JML_RULE>;

}  // namespace jml

// Under emulation, where there is no GPU, tensors of the CPU take its place.
#if defined(JML_CUDA_EMULATION)
STABLE_TORCH_LIBRARY_IMPL(jml_kernels, CPU, m) {
#else
STABLE_TORCH_LIBRARY_IMPL(jml_kernels, CUDA, m) {
#endif
  m.impl("cuda_statistics", TORCH_BOX(&jml::CudaOperators::statistics));
  m.impl("cuda_loss", TORCH_BOX(&jml::CudaOperators::loss));
  m.impl("cuda_statistics_backward", TORCH_BOX(&jml::CudaOperators::backward));
  m.impl("cuda_statistics_backward_", TORCH_BOX(&jml::CudaOperators::backward_inplace));
}
