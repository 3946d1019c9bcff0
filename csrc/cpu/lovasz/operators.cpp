// Launches the kernels of the Lovász losses: logits -> gaps, and then each class in its turn.
#include "operators.h"

#include <memory>
#include <vector>

#include "../faults.h"
#include "../huge_pages.h"
#include "../launch.h"
#include "../operators.h"
#include "extension.h"

namespace jml {
namespace {

double* doubles(const Tensor& tensor) { return static_cast<double*>(tensor.data_ptr()); }

// Writes the gaps of logits, and adds up the pixels of each class, (images, C).
std::vector<double> write_gaps(const Inputs& inputs, const Tensor& gaps) {
  Arguments args;
  set_problem(args, inputs);
  refuse_upsampling(args);
  args.grad = view_of("gaps", gaps, true);
  const int64_t row = args.classes + 1;
  if (args.pixels > 0) cut_tiles(args, row * int64_t(sizeof(double)));
  const int64_t chunks = args.images * args.chunks_per_image;
  std::vector<double> partial(chunks * row);
  std::vector<Faults> faults(chunks);
  args.partial = partial.data();
  args.faults = faults.data();
  run(args, kernels().lovasz_gaps);
  check_faults(args, inputs);
  std::vector<double> counts(args.images * args.classes);
  for (int64_t chunk = 0; chunk < chunks; ++chunk)
    for (int64_t c = 0; c < args.classes; ++c)
      counts[chunk / args.chunks_per_image * args.classes + c] += partial[chunk * row + c];
  return counts;
}

// The groups and classes of a tensor of gaps, contiguous (images, C, pixels).
struct Groups {
  int64_t groups, images, classes, pixels;  // images of a group

  template <typename T>
  ClassPixels<T> of(T* gaps, int64_t group, int64_t c) const {
    return {gaps + (group * images * classes + c) * pixels, images, pixels, classes * pixels};
  }
};

// A class for each thread waits for nobody, and needs room for the items of as many classes: where
// this is small, or no more than half of the gaps. Else all threads share one class after another.
// The bits are the same.
constexpr int64_t kItemBytes = 1024 * 1024;

template <typename T>
bool share_classes(const Groups& groups) {
  const int64_t bytes = groups.images * groups.pixels * int64_t(sizeof(Item<T>));
  const int64_t gaps = groups.groups * groups.images * groups.classes * groups.pixels;
  return bytes > kItemBytes &&
         bytes * torch::stable::get_num_threads() > gaps * int64_t(sizeof(T)) / 2;
}

// Evaluates the classes that are needed. The others have value 0, and slopes 0.
template <typename T>
void evaluate(const Groups& groups, T* gaps, const std::vector<uint8_t>& needed,
              const double* counts, bool with_slopes, double* values) {
  const auto evaluate_class = [&](Extension<T>& extension, int64_t i) {
    const ClassPixels<T> pixels = groups.of(gaps, i / groups.classes, i % groups.classes);
    if (needed[i]) {
      values[i] = extension(pixels, int64_t(counts[i]));
      return;
    }
    for (int64_t image = 0; with_slopes && image < pixels.images; ++image)
      std::fill_n(pixels.gaps + image * pixels.image_stride, pixels.pixels, T(0));
  };
  const auto evaluate_classes = [&](int64_t begin, int64_t end) {
    Extension<T> extension(groups.images * groups.pixels, with_slopes);
    for (int64_t i = begin; i < end; ++i) evaluate_class(extension, i);
  };
  const int64_t count = groups.groups * groups.classes;
  if (share_classes<T>(groups))
    evaluate_classes(0, count);
  else
    torch::stable::parallel_for(0, count, 1, evaluate_classes);
}

void evaluate(const Groups& groups, const Tensor& gaps, const std::vector<uint8_t>& needed,
              const double* counts, bool with_slopes, double* values) {
  STD_TORCH_CHECK(gaps.numel() < int64_t(1) << 32,
                  "logits has too many elements for these kernels: expected fewer than 2^32");
  if (gaps.scalar_type() == ScalarType::Double)
    evaluate(groups, static_cast<double*>(gaps.data_ptr()), needed, counts, with_slopes, values);
  else
    evaluate(groups, static_cast<float*>(gaps.data_ptr()), needed, counts, with_slopes, values);
}

Tensor new_contiguous(const Tensor& like, ScalarType dtype) {
  std::vector<int64_t> size;
  for (int64_t d = 0; d < like.dim(); ++d) size.push_back(like.size(d));
  const Tensor tensor = torch::stable::new_empty(like, size, dtype);
  ask_for_huge_pages(tensor.data_ptr(), tensor.numel() * tensor.element_size());
  return tensor;
}

// Gaps of their sizes and signs.
template <typename T>
void join_gaps(const Tensor& errors, const Tensor& is_label, const Tensor& counted, T* gaps) {
  const T* error = static_cast<const T*>(errors.data_ptr());
  const auto* label = static_cast<const uint8_t*>(is_label.data_ptr());
  const auto* counts = static_cast<const uint8_t*>(counted.data_ptr());
  for (int64_t i = 0; i < errors.numel(); ++i) {
    const T size = one_nan(error[i]);
    gaps[i] = counts[i] ? (label[i] ? -size : size) : uncounted<T>();
  }
}

// Slopes by the errors, of those by the gaps.
template <typename T>
void take_signs(T* slopes, int64_t count) {
  for (int64_t i = 0; i < count; ++i) slopes[i] = slopes[i] < 0 ? -slopes[i] : slopes[i];
}

void check_part(const char* name, const Tensor& part, const Tensor& errors) {
  STD_TORCH_CHECK(part.scalar_type() == ScalarType::Bool && part.dim() == 2 &&
                      part.size(0) == errors.size(0) && part.size(1) == errors.size(1) &&
                      part.is_contiguous(),
                  name, " has shape ", shape_of(part), ": expected contiguous bool ",
                  shape_of(errors));
}

}  // namespace

ThreeTensors lovasz(const Tensor& logits, const Tensor& labels, const OptionalTensor& mask,
                    int64_t ignore_index, const Ints& classes, bool only_present, bool per_image,
                    bool /*align_corners*/, bool with_slopes, bool /*inplace_backward*/) {
  check_logits(logits);
  const ScalarType dtype =
      logits.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
  const Tensor gaps = new_contiguous(logits, dtype);
  Ints ints(TargetInts::count);
  ints[TargetInts::activation] = int64_t(Activation::softmax);
  ints[TargetInts::ignore_index] = ignore_index;
  const Floats floats{0.0, 0.0, 1.0};
  const OptionalTensor none, given_labels(labels);
  const std::vector<double> of_images =
      write_gaps({logits, given_labels, none, mask, none, ints, floats}, gaps);

  const int64_t n = logits.size(0), c = logits.size(1), groups = per_image ? n : 1;
  const Tensor values = torch::stable::new_zeros(logits, {groups, c}, ScalarType::Double);
  const Tensor counts = torch::stable::new_zeros(logits, {groups, c}, ScalarType::Double);
  for (int64_t i = 0; i < n * c; ++i) doubles(counts)[per_image ? i : i % c] += of_images[i];
  std::vector<uint8_t> needed(groups * c);
  for (const int64_t asked_for : classes) {
    STD_TORCH_CHECK(asked_for >= 0 && asked_for < c, "classes has ", asked_for,
                    ": expected indices below ", c);
    for (int64_t group = 0; group < groups; ++group) {
      const int64_t i = group * c + asked_for;
      needed[i] = !only_present || doubles(counts)[i] > 0;
    }
  }
  const int64_t pixels = n && c ? logits.numel() / n / c : 0;
  if (pixels > 0)
    evaluate({groups, n / groups, c, pixels}, gaps, needed, doubles(counts), with_slopes,
             doubles(values));
  return {values, counts, with_slopes ? gaps : torch::stable::new_empty(logits, {0}, dtype)};
}

void lovasz_backward_inplace(const Tensor& grad_sums, const Tensor& grad_totals,
                             const Tensor& logits, const Tensor& slopes, const Tensor& counted,
                             const Ints& target_ints, const Floats& target_floats) {
  const OptionalTensor none, dense(slopes), mask(counted);
  Cpu::write_gradient({grad_sums, grad_totals, none},
                      {logits, none, dense, mask, none, target_ints, target_floats}, slopes);
}

TwoTensors lovasz_extension(const Tensor& errors, const Tensor& is_label, const Tensor& counted) {
  const ScalarType dtype = errors.scalar_type();
  STD_TORCH_CHECK((dtype == ScalarType::Double || dtype == ScalarType::Float) &&
                      errors.dim() == 2 && errors.is_contiguous(),
                  "errors has shape ", shape_of(errors),
                  ": expected contiguous (groups, pixels) in float32 or float64");
  check_part("is_label", is_label, errors);
  check_part("counted", counted, errors);
  const int64_t groups = errors.size(0), pixels = errors.size(1);
  const Tensor slopes = new_contiguous(errors, dtype);
  const Tensor values = torch::stable::new_zeros(errors, {groups}, ScalarType::Double);
  std::vector<double> counts(groups);
  const auto* label = static_cast<const uint8_t*>(is_label.data_ptr());
  const auto* counts_pixel = static_cast<const uint8_t*>(counted.data_ptr());
  for (int64_t i = 0; i < groups * pixels; ++i)
    counts[i / pixels] += label[i] & counts_pixel[i];
  const bool is_double = dtype == ScalarType::Double;
  auto* data = slopes.data_ptr();
  if (is_double)
    join_gaps(errors, is_label, counted, static_cast<double*>(data));
  else
    join_gaps(errors, is_label, counted, static_cast<float*>(data));
  if (pixels > 0)
    evaluate({groups, 1, 1, pixels}, slopes, std::vector<uint8_t>(groups, 1), counts.data(), true,
             doubles(values));
  if (is_double)
    take_signs(static_cast<double*>(data), slopes.numel());
  else
    take_signs(static_cast<float*>(data), slopes.numel());
  return {values, slopes};
}

}  // namespace jml
