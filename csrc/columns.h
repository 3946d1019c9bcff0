// The order of the statistics' columns, as jml_kernels/statistics.py has it.
#pragma once

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
  // sums per image
  kValid,
  kColumns
};
inline constexpr int kSums = 6, kExtrema = 4, kTotals = 1;
inline constexpr int kClassColumns = kSums + kExtrema;

inline constexpr const char* kColumnNames[kColumns] = {
    "true_positive",  "false_positive", "false_negative", "intersection", "prediction_squared",
    "target_squared", "prediction_max", "target_max",     "joint_max",    "present",
    "valid"};

// Whether a bit set asks for a column.
constexpr bool wants(long long columns, int column) { return columns >> column & 1; }

}  // namespace jml
