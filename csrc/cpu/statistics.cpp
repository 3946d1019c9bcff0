// Launches the CPU kernels: checks, views of the tensors, the cut into chunks, threads, and the
// sum of the chunks' partial sums in their order.
#include "statistics.h"

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cstdlib>
#include <stdexcept>
#include <vector>

#include "../checks.h"
#include "../pixel_math.h"
#include "../tiles.h"
#include "arguments.h"

namespace jml {
namespace {

using torch::headeronly::ScalarType;

DType dtype_of(const char* name, const Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case ScalarType::Half: return DType::f16;
    case ScalarType::BFloat16: return DType::bf16;
    case ScalarType::Float: return DType::f32;
    case ScalarType::Double: return DType::f64;
    case ScalarType::Bool:
    case ScalarType::Byte: return DType::u8;
    case ScalarType::Char: return DType::i8;
    case ScalarType::Short: return DType::i16;
    case ScalarType::Int: return DType::i32;
    case ScalarType::Long: return DType::i64;
    case ScalarType::UInt16: return DType::u16;
    case ScalarType::UInt32: return DType::u32;
    case ScalarType::UInt64: return DType::u64;
    default: STD_TORCH_CHECK(false, name, " has a dtype that the CPU kernels do not take");
  }
}

TensorView view_of(const char* name, const Tensor& tensor, bool with_classes) {
  TensorView view;
  view.given = true;
  view.data = tensor.data_ptr();
  view.dtype = dtype_of(name, tensor);
  view.image_stride = tensor.stride(0);
  view.class_stride = with_classes ? tensor.stride(1) : 0;
  const int64_t spatial = tensor.dim() - (with_classes ? 2 : 1);
  for (int64_t d = 0; d < spatial; ++d)
    view.spatial_stride[3 - spatial + d] = tensor.stride(tensor.dim() - spatial + d);
  return view;
}

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

// A call of an operator.
struct Call {
  Arguments args;
  const Tensor* target = nullptr;  // the first one
  std::vector<double> ce_class_weights;
};

// Numbers of a floating dtype, in double precision.
std::vector<double> numbers_of(const char* name, const Tensor& tensor) {
  std::vector<double> numbers(tensor.size(0));
  const ScalarType dtype = tensor.scalar_type();
  STD_TORCH_CHECK(dtype == ScalarType::Float || dtype == ScalarType::Double, name,
                  " has another dtype than float32 or float64");
  for (size_t i = 0; i < numbers.size(); ++i) {
    const int64_t at = int64_t(i) * tensor.stride(0);
    numbers[i] = dtype == ScalarType::Float
                     ? double(static_cast<const float*>(tensor.data_ptr())[at])
                     : static_cast<const double*>(tensor.data_ptr())[at];
  }
  return numbers;
}

Call call_of(const Tensor& logits, const std::optional<Tensor>& labels,
                       const std::optional<Tensor>& dense, const std::optional<Tensor>& mask,
                       const std::optional<Tensor>& ce_class_weights, int64_t label_columns,
                       int64_t dense_columns, const std::string& activation,
                       double label_smoothing, int64_t boundary_size, int64_t ignore_index,
                       std::optional<double> teacher_temperature, double student_temperature) {
  check_logits(logits);
  STD_TORCH_CHECK(labels || dense, "labels and dense: expected at least one of them");
  Call call;
  call.target = labels ? &*labels : &*dense;
  Arguments& args = call.args;
  args.logits = view_of("logits", logits, true);
  STD_TORCH_CHECK(args.logits.dtype < DType::u8, "logits has an integer dtype");
  if (labels) {
    check_beside("labels", *labels, logits, false);
    args.labels = view_of("labels", *labels, false);
    STD_TORCH_CHECK(args.labels.dtype >= DType::u8, "labels has a floating dtype");
  }
  if (dense) {
    check_beside("dense", *dense, logits, true);
    args.dense = view_of("dense", *dense, true);
    STD_TORCH_CHECK(!args.integer_dense() || (!labels && !teacher_temperature),
                    "dense has an integer dtype: expected a floating one beside labels and for a "
                    "teacher");
  }
  if (mask) {
    check_beside("mask", *mask, logits, false);
    args.mask = view_of("mask", *mask, false);
    STD_TORCH_CHECK(args.mask.dtype == DType::u8, "mask has another dtype than bool");
  }
  if (ce_class_weights) {
    check_class_weights(*ce_class_weights, logits);
    call.ce_class_weights = numbers_of("ce_class_weights", *ce_class_weights);
    args.ce_class_weights = call.ce_class_weights.data();
  }
  args.label_columns = {label_columns};
  args.dense_columns = {dense_columns};
  args.teacher = dense && teacher_temperature;
  args.teacher_temperature = teacher_temperature.value_or(1);
  args.student_temperature = student_temperature;
  check_positive("teacher_temperature", args.teacher_temperature);
  check_positive("student_temperature", student_temperature);
  args.images = logits.size(0);
  args.classes = logits.size(1);
  args.pixels = 1;
  int64_t longest = 1;
  for (int64_t d = 2; d < logits.dim(); ++d) {
    args.spatial[3 - (logits.dim() - d)] = logits.size(d);
    args.pixels *= logits.size(d);
    longest = std::max(longest, logits.size(d));
  }
  STD_TORCH_CHECK(activation == "softmax" || activation == "sigmoid" || activation == "none",
                  "activation='", activation, "': expected 'softmax', 'sigmoid' or 'none'");
  args.activation = activation == "softmax"   ? Activation::softmax
                    : activation == "sigmoid" ? Activation::sigmoid
                                              : Activation::none;
  STD_TORCH_CHECK(args.activation != Activation::softmax || !args.integer_dense(),
                  "dense has an integer dtype: expected a floating one with activation='softmax'");
  STD_TORCH_CHECK(label_smoothing >= 0 && label_smoothing <= 1,
                  "label_smoothing=", label_smoothing, ": expected a number in [0, 1]");
  STD_TORCH_CHECK(boundary_size == 0 || (boundary_size > 0 && boundary_size % 2 == 1),
                  "boundary_size=", boundary_size, ": expected 0 or an odd positive integer");
  args.label_smoothing = label_smoothing;
  // A wider window than one that always holds the image holds no more.
  args.boundary_size = std::min(boundary_size, 2 * longest + 1);
  args.ignore_index = ignore_index;
  return call;
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

// An IndexError in Python, with the words of jml_kernels/checks.py.
void check_labels(const Arguments& args, const Tensor& target) {
  const int64_t* end = args.bad_label + args.images * args.chunks_per_image;
  const int64_t* found = std::find_if(static_cast<const int64_t*>(args.bad_label), end,
                                      [](int64_t position) { return position >= 0; });
  if (found == end) return;
  std::vector<int64_t> position(target.dim());
  int64_t rest = *found;
  for (int64_t d = target.dim() - 1; d > 0; --d) {
    position[d] = rest % target.size(d);
    rest /= target.size(d);
  }
  position[0] = (found - args.bad_label) / args.chunks_per_image;
  int64_t offset = 0;
  std::string where;
  for (int64_t d = 0; d < target.dim(); ++d) {
    offset += position[d] * target.stride(d);
    where += (d ? ", " : "") + std::to_string(position[d]);
  }
  const void* data = target.data_ptr();
  const auto value = [&]() -> int64_t {
    switch (dtype_of("target", target)) {
      case DType::u8: return static_cast<const uint8_t*>(data)[offset];
      case DType::i8: return static_cast<const int8_t*>(data)[offset];
      case DType::i16: return static_cast<const int16_t*>(data)[offset];
      case DType::u16: return static_cast<const uint16_t*>(data)[offset];
      case DType::i32: return static_cast<const int32_t*>(data)[offset];
      case DType::u32: return static_cast<const uint32_t*>(data)[offset];
      default: return static_cast<const int64_t*>(data)[offset];
    }
  }();
  throw std::out_of_range("target has label " + std::to_string(value) + " at position (" + where +
                          "): expected a label in [0, " +
                          std::to_string(args.has_labels() ? args.label_count() : 2) +
                          ") or ignore_index=" + std::to_string(args.ignore_index));
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
      if (!columns.wants(column)) continue;
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

void write_gradient(Arguments& args, const Tensor& grad_sums, const Tensor& grad_totals,
                    const Tensor& logits, const Tensor& grad) {
  check_gradient("grad_sums", grad_sums, logits, 4, args.targets(), kSums);
  check_gradient("grad_totals", grad_totals, logits, 3, args.targets(), kTotals);
  args.grad = view_of("gradient", grad, true);
  args.grad_sums = static_cast<const double*>(grad_sums.data_ptr());
  args.grad_totals = static_cast<const double*>(grad_totals.data_ptr());
  args.stream_gradient =
      args.images * args.classes * args.pixels * args.grad.element_bytes() >= kStreamedBytes;
  cut(args, 0);
  run(args, kernels().backward);
}

}  // namespace

std::string cpu_instruction_set() { return kernels().name; }

template <typename... Rule>
std::tuple<Tensor, Tensor, Tensor> Operators<Rule...>::statistics(const Tensor& logits,
                                                                  Rule... rule, bool) {
  Call call = call_of(logits, rule...);
  Arguments& args = call.args;
  cut(args, args.partial_size() * int64_t(sizeof(double)));
  const int64_t chunks = args.images * args.chunks_per_image;
  const Tensor partial =
      torch::stable::new_empty(logits, {chunks, args.partial_size()}, ScalarType::Double);
  std::vector<int64_t> bad_label(chunks);
  args.partial = static_cast<double*>(partial.data_ptr());
  args.bad_label = bad_label.data();
  run(args, kernels().statistics);
  check_labels(args, *call.target);

  const int64_t targets = args.targets(), n = args.images, c = args.classes;
  const auto zeros = [&](std::initializer_list<int64_t> size) {
    return torch::stable::new_zeros(logits, size, ScalarType::Double);
  };
  const Tensor sums = zeros({targets, kSums, n, c}), extrema = zeros({targets, kExtrema, n, c});
  const Tensor totals = zeros({targets, kTotals, n});
  const auto numbers = [](const Tensor& tensor) { return static_cast<double*>(tensor.data_ptr()); };
  for (int target = 0; target < targets; ++target)
    add_chunks(args, target, numbers(sums) + target * kSums * n * c,
               numbers(extrema) + target * kExtrema * n * c,
               numbers(totals) + target * kTotals * n);
  return {sums, extrema, totals};
}

template <typename... Rule>
Tensor Operators<Rule...>::backward(const Tensor& grad_sums, const Tensor& grad_totals,
                                    const Tensor& logits, Rule... rule) {
  Call call = call_of(logits, rule...);
  Tensor grad = torch::stable::empty_like(logits);
  write_gradient(call.args, grad_sums, grad_totals, logits, grad);
  return grad;
}

template <typename... Rule>
void Operators<Rule...>::backward_inplace(const Tensor& grad_sums, const Tensor& grad_totals,
                                          const Tensor& logits, Rule... rule) {
  Call call = call_of(logits, rule...);
  for (int64_t d = 0; d < logits.dim(); ++d)
    STD_TORCH_CHECK(logits.stride(d) != 0 || logits.size(d) <= 1,
                    "logits is expanded: its memory cannot hold a gradient (inplace_backward)");
  write_gradient(call.args, grad_sums, grad_totals, logits, logits);
}

template struct Operators<JML_RULE>;

}  // namespace jml
