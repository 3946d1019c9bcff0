// The places of an operator's options in the lists that they travel in, as jml_kernels/packing.py has
// them: the same names in the same order.
#pragma once

namespace jml {

struct TargetInts {
  enum {
    label_columns,
    dense_columns,
    activation,
    boundary_size,
    ignore_index,
    upsample,
    align_corners,
    count
  };
};

struct TargetFloats {
  enum { label_smoothing, teacher_temperature, student_temperature, count };
};

struct FormulaInts {
  enum {
    log_loss,
    label_active,
    dense_active,
    is_divergence,
    has_inactive_loss,
    weighted_mean,
    reduction,
    count
  };
};

struct FormulaFloats {
  enum {
    alpha,
    beta,
    gamma,
    smooth_numerator,
    smooth_denominator,
    index_floor,
    inactive_loss,
    dataset,
    image,
    per_class,
    active_threshold,
    label_ce_weight,
    dense_ce_weight,
    label_overlap_weight,
    dense_overlap_weight,
    count
  };
};

struct TallyInts {
  enum {
    activation,
    bins,
    boundary_size,
    ignore_index,
    upsample,
    align_corners,
    calibration,
    classwise,
    count
  };
};

}  // namespace jml
