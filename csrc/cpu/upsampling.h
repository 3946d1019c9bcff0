// How pixels of full size are interpolated from those of lower resolution, as by
// torch.nn.functional.interpolate: along each dimension pixel i is
//
//     (1 - weight[i]) low[lower[i]] + weight[i] low[upper(i)]
//
// and along several dimensions the products of these (../axis.h). The launcher makes these tables.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "../axis.h"

namespace jml {

// Of one dimension.
struct UpsampledAxis {
  bool given = false;  // whether the tensors have this dimension
  int64_t low = 1, full = 1;
  std::vector<int32_t> lower;  // full
  std::vector<double> weight;  // full

  int64_t upper(int64_t lower) const {
    return low == full ? lower : std::min<int64_t>(lower + 1, low - 1);
  }
  // The pixels whose lower neighbour is before `index`.
  int64_t pixels_before(int64_t index) const {
    return std::lower_bound(lower.begin(), lower.end(), int32_t(index)) - lower.begin();
  }
};

inline UpsampledAxis upsampled_axis(int64_t low, int64_t full, bool align_corners) {
  const Axis rule = axis_of(low, full, align_corners);
  UpsampledAxis axis{true, low, full, std::vector<int32_t>(full), std::vector<double>(full)};
  for (int64_t i = 0; i < full; ++i) {
    axis.lower[i] = int32_t(rule.place(i) / rule.unit);
    axis.weight[i] = double(rule.place(i) % rule.unit) / double(rule.unit);
  }
  return axis;
}

// Of a tensor: its spatial dimensions, missing ones first.
struct Upsampling {
  UpsampledAxis axis[3];

  int64_t low(int d) const { return axis[d].low; }
  int64_t low_pixels() const { return low(0) * low(1) * low(2); }
};

inline Upsampling upsampling_of(const int64_t low[3], const int64_t full[3], int64_t rank,
                                bool align_corners) {
  Upsampling result;
  for (int64_t d = 3 - rank; d < 3; ++d)
    result.axis[d] = upsampled_axis(low[d], full[d], align_corners);
  return result;
}

}  // namespace jml
