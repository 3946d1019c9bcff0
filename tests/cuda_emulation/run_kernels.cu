// Runs the kernels over cases.h for a sanitizer to watch: forward, formula and backward, and what
// counts for metrics, with every buffer of exactly the size that is needed. `run_kernels [KIND]`, of
// the launcher's kinds or "tally", for all of them or one; writes how each kernel was launched, and a hash of what it made.
#include <algorithm>
#include <numeric>

#include "cases.h"
#include "cuda/tally_launch.cuh"

namespace {

using namespace jml::cuda;

const char* wrong = nullptr;  // the first thing of a problem
void expect(bool holds, const char* what) {
  if (!holds && !wrong) wrong = what;
}

// The same numbers on every run and machine.
class Chance {
 public:
  // In [0, 1).
  double next() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return double(state_ >> 40) / double(1 << 24);
  }
  int64_t below(int64_t end) { return int64_t(next() * double(end)); }

 private:
  uint64_t state_ = 1;
};

struct Hash {
  uint64_t value = 14695981039346656037u;

  template <typename T>
  void add(const std::vector<T>& numbers) {
    const auto* const bytes = reinterpret_cast<const unsigned char*>(numbers.data());
    for (size_t i = 0; i < numbers.size() * sizeof(T); ++i)
      value = (value ^ bytes[i]) * 1099511628211u;
  }
};

// ---- what a problem is made of ---------------------------------------------------------------

// Calls body(n, c, pixel) for each number.
template <typename Body>
void each(const Shape& shape, Body body) {
  for (int64_t n = 0; n < shape.images; ++n)
    for (int64_t pixel = 0; pixel < shape.pixels(); ++pixel)
      for (int64_t c = 0; c < shape.classes; ++c) body(n, c, pixel);
}

void fill_logits(Tensor& tensor, const Shape& shape, Chance& chance) {
  each(shape, [&](int64_t n, int64_t c, int64_t pixel) {
    tensor.set(n, c, pixel, 6 * chance.next() - 3);
  });
}

// Away from 0 and 1; of several classes they add up to 1.
void fill_probabilities(Tensor& tensor, const Shape& shape, Chance& chance) {
  std::vector<double> parts(size_t(shape.classes));
  each(shape, [&](int64_t n, int64_t c, int64_t pixel) {
    double sum = shape.classes == 1 ? 1.5 : 0;
    for (double& part : parts)
      if (c == 0) part = 0.25 + chance.next();
    for (double part : parts) sum += shape.classes == 1 ? 0 : part;
    tensor.set(n, c, pixel, parts[size_t(c)] / sum);
  });
}

int64_t ignored(DType dtype) { return dtype == DType::u8 || dtype >= DType::u16 ? 255 : -100; }

template <typename T>
std::unique_ptr<Numbers<T>> weights(int64_t count, Chance& chance) {
  std::vector<T> numbers(static_cast<size_t>(count));
  for (T& number : numbers) number = T(0.5 + chance.next());
  return std::make_unique<Numbers<T>>(numbers);
}

struct Problem {
  const Case& c;
  const Shape shape;
  Tensor logits, labels, dense, mask, grad;
  std::unique_ptr<Numbers<float>> entropy_weights;
  std::unique_ptr<Numbers<double>> class_weights, scale;
  std::vector<bool> counts;  // of each pixel: whether it may have a gradient
  Arguments args;

  explicit Problem(const Case& of)
      : c(of),
        shape(of.shape),
        logits(c.logits_shape(), true, c.dtype, c.layout),
        labels(shape, false, c.label_dtype,
               c.layout == Layout::cropped ? Layout::cropped : Layout::planes),
        dense(c.dense_shape(), true, c.dense_dtype, c.layout),
        mask(shape, false, DType::u8,
             c.layout == Layout::cropped ? Layout::cropped : Layout::planes),
        grad(c.logits_shape(), true, c.dtype,
             c.layout == Layout::cropped ? Layout::planes : c.layout),
        counts(size_t(shape.images * shape.pixels()), true) {
    Chance chance;
    if (c.activation == Activation::none) {
      fill_probabilities(logits, c.logits_shape(), chance);
      if (c.has_wrong_value) logits.set(0, shape.classes - 1, 3, -0.5);
    } else {
      fill_logits(logits, c.logits_shape(), chance);
    }
    if (c.has_labels) fill_labels(chance);
    if (c.dense == Dense::bits)
      fill_bits(chance);
    else if (c.dense == Dense::probabilities || c.activation == Activation::none)
      fill_targets(chance);
    else
      fill_logits(dense, c.dense_shape(), chance);
    if (c.has_mask) fill_mask(chance);
    entropy_weights = weights<float>(shape.classes, chance);
    class_weights = weights<double>(shape.classes, chance);
    scale = weights<double>(1, chance);
    set_arguments();
  }

  bool is_soft() const {  // whether x of a pixel adds up to 1
    return c.activation == Activation::softmax ||
           (c.activation == Activation::none && shape.classes > 1);
  }
  int64_t counted(int64_t n) const {
    const auto first = counts.begin() + n * shape.pixels();
    return std::count(first, first + shape.pixels(), true);
  }

 private:
  // Squares of 4 x 4 pixels, so that some are no boundary, in half of the classes.
  void fill_labels(Chance& chance) {
    const bool binary = c.activation != Activation::softmax && shape.classes == 1;
    const int64_t count = binary ? 2 : (shape.classes + 1) / 2, width = shape.spatial[2];
    for (int64_t n = 0; n < shape.images; ++n)
      for (int64_t pixel = 0; pixel < shape.pixels(); ++pixel) {
        const int64_t square = pixel / width / 4 * 31 + pixel % width / 4 * 7 + n;
        const bool is_ignored = chance.next() < 0.05;
        const int64_t found = (square * square + square) % count;
        labels.set(n, 0, pixel, double(is_ignored ? ignored(c.label_dtype) : found));
        if (is_ignored) counts[size_t(n * shape.pixels() + pixel)] = false;
      }
    if (c.has_wrong_value && c.activation != Activation::none)
      labels.set(0, 0, 3, double(shape.classes));
  }
  // Of every fourth pixel nothing counts, of the others not every class.
  void fill_targets(Chance& chance) {
    fill_probabilities(dense, shape, chance);
    if (c.has_wrong_value) dense.set(0, shape.classes - 1, 3, 1.5);
    if (!c.has_ignored) return;
    each(shape, [&](int64_t n, int64_t k, int64_t pixel) {
      if (pixel % 4 != 0 && chance.next() >= 0.05) return;
      dense.set(n, k, pixel, double(ignored(c.dense_dtype)));
      if (pixel % 4 == 0) counts[size_t(n * shape.pixels() + pixel)] = false;
    });
  }
  void fill_bits(Chance& chance) {
    each(shape, [&](int64_t n, int64_t k, int64_t pixel) {
      const bool is_ignored = chance.next() < 0.05;
      dense.set(n, k, pixel, double(is_ignored ? ignored(c.dense_dtype) : chance.below(2)));
      if (is_ignored && shape.classes == 1) counts[size_t(n * shape.pixels() + pixel)] = false;
    });
  }
  void fill_mask(Chance& chance) {
    for (int64_t n = 0; n < shape.images; ++n)
      for (int64_t pixel = 0; pixel < shape.pixels(); ++pixel) {
        const bool is_valid = chance.next() < 0.9;
        mask.set(n, 0, pixel, is_valid);
        if (!is_valid) counts[size_t(n * shape.pixels() + pixel)] = false;
      }
  }

  void set_arguments() {
    const Shape logits_sizes = c.logits_shape(), dense_sizes = c.dense_shape();
    args.logits = logits.on_device();
    if (c.has_labels) args.labels = labels.on_device();
    if (c.dense != Dense::none) args.dense = dense.on_device();
    if (c.has_mask) args.mask = mask.on_device();
    args.grad = c.in_place ? args.logits : grad.on_device();
    args.images = shape.images;
    args.classes = shape.classes;
    std::copy(shape.spatial, shape.spatial + 3, args.spatial);
    args.pixels = shape.pixels();
    args.upsample = c.upsample;
    args.align_corners = c.align_corners;
    std::copy(logits_sizes.spatial, logits_sizes.spatial + 3, args.logits_spatial);
    std::copy(dense_sizes.spatial, dense_sizes.spatial + 3, args.dense_spatial);
    args.activation = c.activation;
    args.label_smoothing = c.smoothing;
    args.boundary_size = c.boundary;
    args.ignore_index = ignored(c.has_labels ? c.label_dtype : c.dense_dtype);
    args.teacher = c.dense == Dense::teacher;
    args.teacher_temperature = args.teacher ? 2 : 1;
    args.student_temperature = c.student_temperature;
    if (c.has_weights) args.ce_class_weights = {entropy_weights->data(), false, 1};
    args.scale = {scale->data(), true, 0};
    set_columns();
  }

  // All that the fast kernels make, or all that there are.
  void set_columns() {
    using namespace jml;
    const auto all_but = [](std::initializer_list<int> some) {
      Columns columns{(1 << kColumns) - 1};
      for (int column : some) columns.bits &= ~(1 << column);
      return columns;
    };
    const bool is_hard = c.smoothing == 0 && c.dense == Dense::none;
    args.label_columns = is_hard ? all_but({kPredictionSquared, kPredictionMax, kJointMax, kCounted})
                                 : all_but({kIntersection, kPredictionSquared, kTargetSquared,
                                            kPredictionMax, kJointMax, kPresent, kCounted});
    args.dense_columns = all_but(
        {kPredictionSquared, kTargetSquared, kPredictionMax, kJointMax, kPresent});
    if (c.every_column || kind_of(args) == Kind::general)
      args.label_columns = args.dense_columns = all_but({});
  }
};

// ---- what becomes of it ----------------------------------------------------------------------

struct Results {
  Numbers<double> sums, extrema, totals, grad_sums, grad_totals;
  Numbers<unsigned char> loss;  // as wide as the operator has it

  explicit Results(const Arguments& args)
      : sums(count(args, jml::kSums * args.classes)),
        extrema(count(args, jml::kExtrema * args.classes)),
        totals(count(args, jml::kTotals)),
        grad_sums(sums.size()),
        grad_totals(totals.size()),
        loss(args.logits.dtype == DType::f64 ? sizeof(double) : sizeof(float)) {}

 private:
  static size_t count(const Arguments& args, int64_t of_an_image) {
    return size_t(args.targets() * args.images * of_an_image);
  }
};

const char* name(Kind kind) {
  constexpr const char* names[] = {"cells", "label-cells", "hard", "label", "dense",
                                    "general"};
  return names[int(kind)];
}

// One line for each kernel: the tests look for what it says (test_sanitizers.py).
void describe(Arguments args, bool is_backward, const Device& device) {
  const Plan plan = plan_of(args, is_backward, device);
  constexpr const char* activations[] = {"softmax", "sigmoid", "none"};
  constexpr const char* patterns[] = {"rows", "strided", "staged"};
  const bool is_double = args.logits.dtype == DType::f64;
  printf("%s %s%s %s %s %dx%d %s", is_backward ? "backward" : "forward", name(plan.kind),
         plan.kind == Kind::dense && args.has_labels() ? "+labels" : "", is_double ? "double" : "float", activations[int(args.activation)], plan.kernel.classes,
         plan.kernel.pixels, patterns[int(args.logits_access.pattern)]);
  if (args.logits_access.pattern == AccessPattern::staged)
    printf(" %s", args.logits_access.padding ? "padded" : "unpadded");
  printf(" %s warp%s%s%s\n", plan.warps == 1 ? "1" : "several", plan.warps == 1 ? "" : "s",
         args.chunks > 1 ? " chunks" : "", args.upsample ? " upsampled" : "");
}

FormulaArguments formula_arguments(const Problem& problem, const Results& results, int number) {
  using jml::Active;
  const Arguments& args = problem.args;
  const bool is_general = kind_of(args) == Kind::general;
  // The matrices of jml_kernels/overlaps.py.
  constexpr double overlaps[][jml::kCounts][jml::kSums] = {
      {{1, 0, 0, 0, 0, 0}, {0, 1, 0, 0, 0, 0}, {0, 0, 1, 0, 0, 0}},
      {{0, 0, 0, 1, 0, 0}, {0, 1, 0, 0, 0, 0}, {0, 0, 1, 0, 0, 0}},
      {{0, 0, 0, 1, 0, 0}, {1, 1, 0, -1, 0, 0}, {1, 0, 1, -1, 0, 0}},
      {{0, 0, 0, 1, 0, 0}, {0, 0, 0, -1, 1, 0}, {0, 0, 0, -1, 0, 1}}};
  constexpr Active actives[] = {Active::all, Active::label, Active::present, Active::prob,
                                Active::both};
  const bool counts_classes = problem.c.has_ignored && number % 2 == 0;
  jml::Formula formula;
  const auto& overlap = overlaps[is_general ? number % 4 : 0];
  std::copy(&overlap[0][0], &overlap[0][0] + jml::kCounts * jml::kSums, &formula.overlap[0][0]);
  formula.smooth_numerator = formula.smooth_denominator = 1;
  formula.dataset = 0.5;
  formula.image = 0.3;
  formula.per_class = 0.2;
  formula.class_weights = {problem.class_weights->data(), true, 1};
  const Active active =
      counts_classes ? Active::counted : actives[number % (is_general ? 5 : 2)];
  const jml::Term term{1, 1, active, args.teacher};
  return {formula,
          {term, term},
          args.targets(),
          args.images,
          args.classes,
          results.sums.data(),
          results.extrema.data(),
          results.totals.data(),
          results.grad_sums.data(),
          results.grad_totals.data(),
          results.loss.data(),
          args.logits.dtype == DType::f64};
}

double loss_of(const Results& results) {
  const std::vector<unsigned char> bytes = results.loss.to_host();
  double wide;
  float single;
  if (bytes.size() == sizeof(double)) return memcpy(&wide, bytes.data(), sizeof(wide)), wide;
  return memcpy(&single, bytes.data(), sizeof(single)), single;
}

bool is_near(double a, double b, double tolerance) {
  return std::abs(a - b) <= tolerance * (1 + std::abs(b));
}

// How far a sum of rounded numbers may be from the true one.
double tolerance_of(DType dtype) {
  return dtype == DType::f64 ? 1e-10 : dtype == DType::f32 ? 1e-4 : 1e-2;
}

// What adds up: x and y of a pixel to 1, over classes.
void check_statistics(const Problem& problem, const std::vector<double>& sums,
                      const std::vector<double>& totals) {
  const Case& c = problem.c;
  const int64_t images = problem.shape.images, classes = problem.shape.classes;
  for (int target = 0; target < problem.args.targets(); ++target) {
    const bool of_labels = c.has_labels && target == 0;
    for (int64_t n = 0; n < images; ++n) {
      const auto sum = [&](int column) {
        const auto first =
            sums.begin() + ((target * jml::kSums + column) * images + n) * classes;
        return std::accumulate(first, first + classes, 0.0);
      };
      const auto total = [&](int column) {
        return totals[size_t((target * jml::kTotals + column - jml::kCrossEntropy) * images + n)];
      };
      if ((c.dense == Dense::bits || c.has_ignored) && classes > 1) continue;
      const double counted = double(problem.counted(n));
      expect(total(jml::kValid) == counted, "another number of pixels counts");
      const double hits = sum(jml::kTruePositive), tolerance = std::max(
          tolerance_of(c.dtype), of_labels ? 0 : tolerance_of(c.dense_dtype));
      if (problem.is_soft())
        expect(is_near(hits + sum(jml::kFalsePositive), counted, tolerance),
               "true and false positives are not all of x");
      const bool is_one = of_labels ? classes > 1
                                    : c.dense == Dense::probabilities && classes > 1;
      if (is_one)
        expect(is_near(hits + sum(jml::kFalseNegative), counted, tolerance),
               "true positives and false negatives are not all of y");
    }
  }
}

// A pixel that does not count has none; the others, of a softmax, add up to 0 over classes.
void check_gradient(const Problem& problem, const Tensor& grad) {
  const Shape shape = problem.c.logits_shape();
  const bool is_softmax = problem.c.activation == Activation::softmax;
  double sum = 0, most = 0, most_of_all = 0;
  each(shape, [&](int64_t n, int64_t c, int64_t pixel) {
    const double value = grad.get(n, c, pixel);
    if (c == 0) sum = most = 0;
    expect(std::isfinite(value), "a gradient is not finite, or not written");
    sum += value;
    most = std::max(most, std::abs(value));
    most_of_all = std::max(most_of_all, most);
    if (!problem.c.upsample && !problem.counts[size_t(n * shape.pixels() + pixel)])
      expect(value == 0, "a pixel that does not count has a gradient");
    const bool is_last = c == shape.classes - 1;
    if (is_softmax && is_last)
      expect(std::abs(sum) <= 1e-6 + double(shape.classes) * most * tolerance_of(problem.c.dtype),
             "the gradients of a softmax do not add up to 0");
  });
  if (!is_softmax || shape.classes > 1) expect(most_of_all > 0, "there is no gradient");
  expect(grad.gaps_are_untouched(), "a gradient is written between the tensor's numbers");
}

void run(const Case& c, int number) {
  Problem problem(c);
  const Results results(problem.args);
  const Device device{0, c.has_one_part ? 1 : 3, 227 << 10};
  describe(problem.args, false, device);
  std::unique_ptr<Numbers<double>> partials;
  forward(problem.args, device, nullptr,
          {results.sums.data(), results.extrema.data(), results.totals.data()},
          [&](int64_t count) {
            partials = std::make_unique<Numbers<double>>(size_t(count));
            return partials->data();
          });
  formula(formula_arguments(problem, results, number), nullptr);
  describe(problem.args, true, device);
  problem.args.grad_sums = results.grad_sums.data();
  problem.args.grad_totals = results.grad_totals.data();
  backward(problem.args, device, nullptr);
  check(cudaDeviceSynchronize());

  Hash hash;
  std::vector<double> found[5];
  const Numbers<double>* const all[] = {&results.sums, &results.totals, &results.extrema,
                                        &results.grad_sums, &results.grad_totals};
  for (int i = 0; i < 5; ++i) hash.add(found[i] = all[i]->to_host());
  Tensor& grad = c.in_place ? problem.logits : problem.grad;
  grad.from_device();
  hash.add(grad.bytes());
  const double loss = loss_of(results);
  hash.add(std::vector<double>{loss});
  if (c.has_wrong_value) {  // which NaN it is depends on the compiler
    printf("made NaN\n");
    return expect(std::isnan(loss), "a wrong value does not show");
  }
  printf("made %016llx\n", static_cast<unsigned long long>(hash.value));
  expect(std::isfinite(loss), "the loss is not finite, or not written");
  for (const auto& numbers : found)
    for (double number : numbers)
      expect(std::isfinite(number), "a number is not finite, or not written");
  check_statistics(problem, found[0], found[1]);
  check_gradient(problem, grad);
}

// ---- what counts for metrics -----------------------------------------------------------------

void describe_tally(TallyArguments args, const Device& device) {
  const TallyPlan plan = tally_plan_of(args, device);
  constexpr const char* patterns[] = {"rows", "strided", "staged"};
  printf("tally %s %dx%d %s", args.logits.dtype == DType::f64 ? "double" : "float",
         plan.kernel.classes, plan.kernel.pixels,
         patterns[int(args.logits_access.pattern)]);
  if (args.logits_access.pattern == AccessPattern::staged)
    printf(" %s", args.logits_access.padding ? "padded" : "unpadded");
  printf(" %s warp%s%s%s, pairs %s, bins %s\n", plan.warps == 1 ? "1" : "several",
         plan.warps == 1 ? "" : "s", args.chunks > 1 ? " chunks" : "",
         args.upsample ? " upsampled" : "",
         args.has_matrix         ? "in a matrix"
         : args.has_class_counts ? "of classes"
                                 : "outside",
         args.has_classwise_bins ? "inside" : args.classwise ? "outside" : "none");
}

void run_tally(const Case& c) {
  Problem problem(c);
  const int64_t n = problem.shape.images, classes = problem.shape.classes, bins = c.bins;
  const bool has_bins = !c.counts_pairs_alone;
  const Device device{0, c.has_one_part ? 1 : 3, (c.has_little_memory ? 42 : 227) << 10};
  const jml::TallyProblem counts{bins, has_bins, has_bins};
  const Numbers<Count> of_images(size_t(n * kImageRows * classes)),
      confusion(size_t(classes * classes)), calibration(size_t(2 * bins * kBinColumns)),
      classwise(size_t(classes * bins * kBinColumns)), wrong_labels(1);
  const TallyOutputs outputs{of_images.data(), confusion.data(), calibration.data(),
                             classwise.data(), wrong_labels.data()};
  describe_tally(tally_arguments_of(problem.args, counts, {}, outputs), device);
  std::unique_ptr<Numbers<unsigned char>> marks;
  tally(problem.args, counts, device, nullptr, outputs, [&](int64_t bytes) {
    marks = std::make_unique<Numbers<unsigned char>>(size_t(bytes));
    return marks->data();
  });
  check(cudaDeviceSynchronize());

  Hash hash;
  std::vector<Count> found[4];
  const Numbers<Count>* const all[] = {&of_images, &confusion, &calibration, &classwise};
  for (int i = 0; i < 4; ++i) hash.add(found[i] = all[i]->to_host());
  printf("made %016llx\n", static_cast<unsigned long long>(hash.value));
  Count counted = 0;
  for (int64_t image = 0; image < n; ++image) counted += Count(problem.counted(image));
  // The sum of some column, from a first one on.
  const auto sum = [](const std::vector<Count>& numbers, int64_t first, int64_t step,
                      int64_t count) {
    Count total = 0;
    for (int64_t i = 0; i < count; ++i) total += numbers[size_t(first + i * step)];
    return total;
  };
  expect(wrong_labels.to_host()[0] == 0, "right labels are wrong");
  expect(sum(found[1], 0, 1, classes * classes) == counted, "pairs are not all pixels");
  for (const ImageRow row : {kPredicted, kLabelled}) {
    Count total = 0;
    for (int64_t image = 0; image < n; ++image)
      total += sum(found[0], (image * kImageRows + row) * classes, 1, classes);
    expect(total == counted, "classes of images are not all pixels");
  }
  if (!has_bins) return;
  expect(sum(found[2], kBinPixels, kBinColumns, bins) == counted, "confidences are not all pixels");
  double all_p = 0;
  for (int64_t k = 0; k < classes; ++k) {
    const int64_t first = k * bins * kBinColumns;
    expect(sum(found[3], first + kBinPixels, kBinColumns, bins) == counted,
           "probabilities of a class are not all pixels");
    all_p += double(sum(found[3], first + kBinProbability, kBinColumns, bins));
  }
  expect(is_near(all_p / double(kProbabilityUnits), double(counted), 1e-4),
         "probabilities do not add up to 1");
}

// A query that fails must fail again when it is repeated: it has left no numbers behind.
void check_missing_device() {
  for (int time = 0; time < 2; ++time) {
    bool throws = false;
    try {
      device_of(1);
    } catch (const std::runtime_error&) {
      throws = true;
    }
    expect(throws, "a device that is missing has numbers");
  }
  cudaGetLastError();
}

}  // namespace

int main(int arguments, char** argument) {
  setvbuf(stdout, nullptr, _IOLBF, 0);  // a sanitizer ends the process without a flush
  int number = 0, failures = 0;
  check_missing_device();
  if (wrong) return fprintf(stderr, "%s\n", wrong), 1;
  for (const Case& c : cases()) {
    ++number;
    if (arguments > 1 && strcmp(argument[1], name(kind_of(Problem(c).args))) != 0) continue;
    wrong = nullptr;
    run(c, number);
    if (!wrong) continue;
    fprintf(stderr, "problem %d: %s\n", number, wrong);
    ++failures;
  }
  for (const Case& c : tally_cases()) {
    ++number;
    if (arguments > 1 && strcmp(argument[1], "tally") != 0) continue;
    wrong = nullptr;
    run_tally(c);
    if (!wrong) continue;
    fprintf(stderr, "problem %d: %s\n", number, wrong);
    ++failures;
  }
  return failures > 0;
}
