// The order of the statistics' columns, as jml_kernels/statistics.py has it.
#pragma once

#include <cstdint>

namespace jml {

enum Column : int {
  // sums per class
  kTruePositive,
  kFalsePositive,
  kFalseNegative,
  kIntersection,
  kPredictionSquared,
  kTargetSquared,
  // maxima per class
  kPredictionMax,
  kTargetMax,
  kJointMax,
  kPresent,
  kCounted,
  // sums per image
  kCrossEntropy,
  kCrossEntropyWeight,
  kTargetEntropy,
  kValid,
  kColumns
};
inline constexpr int kSums = 6, kExtrema = 5, kTotals = 4;
inline constexpr int kClassColumns = kSums + kExtrema;

inline constexpr const char* kColumnNames[kColumns] = {
    "true_positive",      "false_positive", "false_negative",
    "intersection",       "prediction_squared", "target_squared",
    "prediction_max",     "target_max",     "joint_max",
    "present",            "counted",        "cross_entropy",
    "cross_entropy_weight", "target_entropy", "valid"};

// The columns that are asked for of one target.
struct Columns {
  int64_t bits = 0;

  constexpr bool requested(int column) const { return bits >> column & 1; }
  // How many columns of numbers per class there are before one.
  constexpr int before(int column) const {
    int count = 0;
    for (int other = 0; other < column; ++other) count += requested(other);
    return count;
  }
  // Where such a column is among those asked for; others share the place after.
  constexpr int slot(int column) const {
    return before(requested(column) ? column : int(kClassColumns));
  }
  // All of them for a number of classes, the shared place, and the sums per image.
  constexpr int64_t size(int64_t classes) const {
    return (before(kClassColumns) + 1) * classes + kTotals;
  }
};

}  // namespace jml
