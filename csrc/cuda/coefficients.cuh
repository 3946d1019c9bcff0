// What the backward kernels need to know of a class: the gradient of the loss by its sums, as
// coefficients of the gradient by a probability.
#pragma once

#include "arguments.cuh"

namespace jml::cuda {

// Of one class and target: g by a probability (pixel_math.h), and q w, the gradient by a
// cross-entropy times the weight of the class there.
struct ClassGradient {
  GradientCoefficients<double> overlap;
  double qw;

  // With labels alone g is one of two numbers, for p above the target, as off a hard label, and below
  // it, as at one. The intersection is a column of hard labels only, whose target is 1 there.
  JML_DEVICE double above() const { return 2 * overlap.half_above; }
  JML_DEVICE double below() const { return 2 * overlap.half_below + overlap.of_target; }
};

// g of labels alone, where p is `excess` more than the target: at 0 it is the mean of both sides. What
// is added to 1/2 is so large that the sum is 1 above the target and 0 below it, and the side that
// counts keeps its digits.
template <typename F>
JML_DEVICE F side(F above, F below, F excess) {
  constexpr F kLarge = F(8.5e37);  // about 2^126
  const F share = __saturatef(excess * kLarge + F(0.5));
  return share * above + (below - share * below);
}

// `scale` is what the logits are multiplied with before the cross-entropy, 1 / temperature.
JML_DEVICE ClassGradient class_gradient(const Arguments& args, int image, int target, int64_t c,
                                        double scale) {
  const double factor = args.scale.at(image);
  const int64_t column_stride = args.images * args.classes;
  const double* const sums =
      args.grad_sums + target * kSums * column_stride + image * args.classes;
  const Columns& columns = args.columns(target);
  const auto gradient_of = [&](int column) {
    return columns.requested(column) ? factor * sums[column * column_stride + c] : 0.0;
  };
  const double q = args.grad_totals[target * kTotals * args.images + image] * factor;
  const double weight = target == 0 ? args.ce_class_weights.at(c) : 1.0;
  return {gradient_coefficients<double>(gradient_of(kTruePositive), gradient_of(kFalsePositive),
                                        gradient_of(kFalseNegative), gradient_of(kIntersection),
                                        gradient_of(kPredictionSquared)),
          columns.requested(kCrossEntropy) ? weight * q * scale : 0.0};
}

}  // namespace jml::cuda
