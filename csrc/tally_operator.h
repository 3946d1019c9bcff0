// The operator of a compiled backend that counts for metrics, as jml_kernels/tally.py has its
// schema.
#pragma once

#include "operators.h"
#include "packing.h"

namespace jml {

using FiveTensors = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

// See `tally` in jml_kernels/reference_tally.py, and packing.h for the list.
struct TallyInputs {
  const Tensor &logits, &labels;
  const OptionalTensor& mask;
  const Ints& ints;
};

// What the losses' operators would be asked to read the same logits and labels.
struct TallyTarget {
  Ints ints;
  Floats floats;
  OptionalTensor labels, none;

  explicit TallyTarget(const TallyInputs& inputs)
      : ints(TargetInts::count), floats(TargetFloats::count), labels(inputs.labels) {
    check_count("tally_ints", inputs.ints.size(), TallyInts::count);
    const auto take = [&](int to, int from) { ints[to] = inputs.ints[from]; };
    take(TargetInts::activation, TallyInts::activation);
    take(TargetInts::boundary_size, TallyInts::boundary_size);
    take(TargetInts::ignore_index, TallyInts::ignore_index);
    take(TargetInts::upsample, TallyInts::upsample);
    take(TargetInts::align_corners, TallyInts::align_corners);
    floats[TargetFloats::student_temperature] = 1;
  }

  Inputs inputs(const TallyInputs& given) const {
    return {given.logits, labels, none, given.mask, none, ints, floats};
  }
};

// A backend that tallies has a function FiveTensors tally(const TallyInputs&): int64 tensors.
template <typename Backend>
FiveTensors tally_operator(const Tensor& logits, const Tensor& labels, const OptionalTensor& mask,
                           const Ints& tally_ints) {
  return Backend::tally({logits, labels, mask, tally_ints});
}

}  // namespace jml

#define JML_REGISTER_TALLY(library, name, Backend) \
  library.impl(name "_tally", TORCH_BOX(&jml::tally_operator<Backend>))
