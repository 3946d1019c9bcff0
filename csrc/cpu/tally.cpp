// The operator that counts for metrics: what its kernels are launched with (launch.h), and the bins
// that they leave.
#include "launch.h"
#include "operators.h"

namespace jml {
namespace {

int64_t* integers(const Tensor& tensor) { return static_cast<int64_t*>(tensor.data_ptr()); }

Tensor zeros(const Tensor& logits, std::initializer_list<int64_t> size) {
  return torch::stable::new_zeros(logits, size, ScalarType::Long);
}

// Bin 0 of each class holds what the other bins do not, of all pixels that count; the kernels leave
// there the sum of all probabilities.
void finish_classwise(int64_t classes, int64_t bins, const int64_t* confusion, int64_t* classwise) {
  std::vector<int64_t> labelled(classes);
  int64_t pixels = 0;
  for (int64_t c = 0; c < classes; ++c)
    for (int64_t prediction = 0; prediction < classes; ++prediction)
      labelled[c] += confusion[c * classes + prediction];
  for (int64_t count : labelled) pixels += count;
  for (int64_t c = 0; c < classes; ++c) {
    int64_t* const rest = classwise + c * bins * kBinColumns;
    rest[kBinPixels] = pixels;
    rest[kBinCorrect] = labelled[c];
    for (int64_t bin = 1; bin < bins; ++bin)
      for (int column = 0; column < kBinColumns; ++column)
        rest[column] -= rest[bin * kBinColumns + column];
  }
}

}  // namespace

FiveTensors Cpu::tally(const TallyInputs& inputs) {
  const Tensor& logits = inputs.logits;
  const TallyTarget target(inputs);
  KernelCall call(target.inputs(inputs));
  Arguments& args = call.args;
  const int64_t n = args.images, c = args.classes, bins = inputs.ints[TallyInts::bins];
  STD_TORCH_CHECK(c * c <= INT32_MAX, "logits has ", c, " classes: expected at most 46340");
  args.cells = nullptr;  // by tiles
  call.cut(0);

  const Tensor of_images = zeros(logits, {n, 2 * kImageRows, c}), confusion = zeros(logits, {c, c}),
               calibration = zeros(logits, {2, bins, kBinColumns}),
               classwise = zeros(logits, {c, bins, kBinColumns}), wrong = zeros(logits, {1});
  TallyArguments tally{args};
  tally.bins = bins;
  tally.of_images = integers(of_images);
  tally.confusion = integers(confusion);
  tally.wrong = integers(wrong);
  if (inputs.ints[TallyInts::calibration]) tally.calibration = integers(calibration);
  if (inputs.ints[TallyInts::classwise]) tally.classwise = integers(classwise);

  const int bytes = CodeMap::bytes_for(c);
  const auto new_map = [&] { return std::unique_ptr<char[]>(new char[n * args.pixels * bytes]); };
  const auto labels = new_map();
  tally.labels = {labels.get(), bytes};
  const auto predictions = tally.has_boundaries() ? new_map() : nullptr;
  tally.predictions = {predictions.get(), bytes};

  run(args, tally, kernels().map_labels);
  run(args, tally, kernels().tally);
  if (tally.has_boundaries()) run(args, tally, kernels().tally_boundaries);
  if (tally.classwise) finish_classwise(c, bins, tally.confusion, tally.classwise);
  return {of_images, confusion, calibration, classwise, wrong};
}

}  // namespace jml
