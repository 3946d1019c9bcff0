// The backward of upsampled logits against integer labels: the gradient of the low rows.
//
// With e the exponentials of a pixel, s their sum and g the gradient of the loss by a probability,
// the gradient by a logit is e (g / s - (sum of g e) / s^2). Down a cell it is summed up for the upper
// and the lower low row, S - B and B with S = sum of dz and B = sum of weight dz, along the row for
// the left and the right low column, and all of this stays in lanes until the phases of a group are
// done. A cross-entropy, with q the gradient by it, adds q (p - y): q p to g of all classes but the
// label's, which gets the difference with the digits of a confident prediction (cross_entropy.h).
#pragma once

#include "../backward.h"
#include "rows.h"

namespace jml::JML_ISA {

class UpsampleBackward : UpsampleRows {
 public:
  explicit UpsampleBackward(const Arguments& args)
      : UpsampleRows(args),
        writer(args),
        gradient(args.classes),
        elsewhere(new float[args.classes]()),
        at_label(new float[args.classes]()),
        ones(new float[args.classes + 1]()) {
    reserve([&](Memory& memory) {
      UpsampleRows::allocate(memory);
      memory.allocate(lanes, args.classes * kSides * kShifts * kLanes);
      memory.allocate_each<float>({&low_gradient[0], &low_gradient[1]}, args.classes * low.pitch);
    });
    fill(lanes, classes * kSides * kShifts * kLanes, 0.0f);
    for (float* rows : low_gradient) fill(rows, classes * low.pitch, 0.0f);
  }

  void run(int64_t chunk) {
    const int64_t image = chunk / args.chunks_per_image;
    if (image != entered_image) enter_image(entered_image = image);
    const int64_t first = chunk % args.chunks_per_image * args.rows.low_per_chunk;
    const int64_t last = std::min(first + args.rows.low_per_chunk, cells.count()) - 1;
    int64_t complete = cells.lower(first);
    for_cell_rows(chunk, [&](int64_t cell, auto count) {
      while (complete < cells.lower(cell)) write(chunk, complete++);
      add_rows<count()>(low_gradient[cells.lower(cell) % 2], low_gradient[cells.upper(cell) % 2]);
    });
    while (complete <= cells.upper(last)) write(chunk, complete++);
    args.unfit[chunk] = !fit;
  }

 private:
  static constexpr int kSides = 2, kShifts = 3;

  LowRowWriter<float> writer;
  TargetGradient<float> gradient;
  std::unique_ptr<float[]> elsewhere, at_label;  // classes: g of a hard label
  std::unique_ptr<float[]> ones;                 // classes + 1
  float* lanes;            // classes x kSides x kShifts x kLanes: of the upper and the lower low row
  float* low_gradient[2];  // classes x pitch, of neighbouring low rows that are not complete
  int64_t entered_image = -1;

  void enter_image(int64_t image) {
    gradient.enter(args, 0, image, ones.get());
    for (int64_t c = 0; c < classes; ++c) {
      const GradientCoefficients<float>& of = gradient.coefficients[c];
      elsewhere[c] = 2 * of.half_above;                // p > y = 0
      at_label[c] = 2 * of.half_below + of.of_target;  // p < y = 1
    }
  }

  template <int kRows>
  void add_rows(float* upper, float* lower) {
    for (int group = 0; group < columns.groups; ++group) {
      labels.look_at_group(powers.rows.count, group);
      for (int phase = 0; phase < columns.phases; ++phase) {
        if (!columns.used[phase * columns.groups + group]) continue;
        if (labels.smooths[phase * columns.groups + group]) {
          if (!add_vector<kRows, false, true>(phase, group)) add_directly<true>(phase, group);
        } else {
          if (!add_vector<kRows, false, false>(phase, group)) add_directly<false>(phase, group);
        }
      }
      const int64_t at = group * kLanes + columns.first_low + 1;
      for (int shift = 0; shift < columns.shifts(); ++shift)
        add_lanes(shift, upper + at + shift, lower + at + shift);
    }
  }

  // Sums of a group's lanes go to their low columns. A class's vectors of several shifts overlap:
  // one after the other they would wait for each other.
  void add_lanes(int shift, float* upper, float* lower) const {
    float* from = lanes + shift * kLanes;
    for (int64_t c = 0; c < classes; ++c) {
      for (float* to : {upper, lower}) {
        add_to(to + c * low.pitch, load(from, 0));
        store(from, 0, Lanes{});
        from += kShifts * kLanes;
      }
    }
  }

  template <bool kSmooth>
  __attribute__((noinline)) void add_directly(int phase, int group) {
    add_vector<kMaxRows, true, kSmooth>(phase, group);
  }

  template <int kRows, bool kDirect, bool kSmooth>
  JML_MATH bool add_vector(int phase, int group) {
    const int count = kDirect ? powers.rows.count : kRows;
    IntLanes label[kRows];
    ClassSums<kRows> sums;
#pragma GCC unroll 8
    for (int j = 0; j < count; ++j) label[j] = labels.code_at(j, phase, group);
    powers.enter(phase, group);
    if (!powers.sum<kRows, kDirect, !kSmooth, false>(label, {elsewhere.get(), at_label.get()}, sums))
      return false;
    // Targets are compared with exponentials, and are multiplied with their sum instead of dividing
    // these: of a hard label that is the sum itself, which its own exponential does not exceed.
    Lanes scale[kRows], dot[kRows], ce_label[kRows], y_label[kRows], y_elsewhere[kRows];
    const float q = gradient.q, others_q = q * float(classes - 1);
#pragma GCC unroll 8
    for (int j = 0; j < count; ++j) {
      const LaneMask counts = at_least_0(label[j]);
      const Lanes sum = sums.others[j] + sums.own[j];
      scale[j] = select(counts, 1.0f / sum, Lanes{});
      dot[j] = kSmooth ? Lanes{} : sums.dot[j];
      ce_label[j] = sums.others[j] * scale[j] * q;
      if (kSmooth) {
        const LaneMask smoothed = counts & labels.smoothed_at(j, phase, group);
        y_label[j] = select(smoothed, sum * target.at_label, sum);
        y_elsewhere[j] = select(smoothed, sum * target.elsewhere, Lanes{});
        ce_label[j] = (ce_label[j] * y_label[j] - sums.own[j] * y_elsewhere[j] * scale[j] * others_q)
                      * scale[j];
      }
    }
    const uint8_t* here = labels.here.get();
    // Calls use(j, e, g, ce) for the rows of a class: dz is p (g - dot) - ce.
    const auto for_gradients = [&](int64_t c, float q, auto use) __attribute__((always_inline)) {
      const GradientCoefficients<float>& of = gradient.coefficients[c];
      const Lanes above = Lanes{} + of.half_above, below = Lanes{} + of.half_below;
      const float of_target = of.of_target;
      // At a tie the mean of both sides.
      const auto side_of = [&](Lanes e, Lanes y) __attribute__((always_inline)) {
        return select(greater(y, e), below, above) + select(greater(e, y), above, below);
      };
      if (!here[c])
        powers.for_rows<kRows, kDirect>(c, sums, [&](int j, Lanes e) __attribute__((always_inline)) {
          const Lanes y = y_elsewhere[j] * scale[j];
          const Lanes g = side_of(e, y_elsewhere[j]) + y * of_target;
          use(j, e, g + q, y * q);
        });
      else
        powers.for_rows<kRows, kDirect>(c, sums, [&](int j, Lanes e) __attribute__((always_inline)) {
          const LaneMask is_label = equal(label[j], int32_t(c));
          const Lanes of_sum = select(is_label, y_label[j], y_elsewhere[j]), y = of_sum * scale[j];
          const Lanes g = side_of(e, of_sum) + y * of_target;
          use(j, e, select(is_label, g, g + q), select(is_label, ce_label[j], y * q));
        });
    };
    if (kSmooth)
      for (int64_t c = 0; c < classes; ++c)
        for_gradients(c, 0.0f, [&](int j, Lanes e, Lanes g, Lanes) __attribute__((always_inline)) {
          dot[j] += g * e;
        });
#pragma GCC unroll 8
    for (int j = 0; j < count; ++j) dot[j] *= scale[j] * scale[j];
    const Lanes right = powers.upper_share(), left = 1.0f - right;
    float* to = lanes + (columns.offset[phase] - columns.first_low) * kLanes;
    for (int64_t c = 0; c < classes; ++c) {
      Lanes all = {}, below = {};
      const float off = elsewhere[c] + q, on = at_label[c];
      const auto add = [&](int j, Lanes dz) __attribute__((always_inline)) {
        all += dz;
        below += dz * powers.rows.weight[j];
      };
      if (kSmooth)
        for_gradients(c, q, [&](int j, Lanes e, Lanes g, Lanes ce) __attribute__((always_inline)) {
          add(j, e * (g * scale[j] - dot[j]) - ce);
        });
      else if (!here[c])
        powers.for_rows<kRows, kDirect>(c, sums, [&](int j, Lanes e) __attribute__((always_inline)) {
          add(j, e * (scale[j] * off - dot[j]));
        });
      else
        powers.for_rows<kRows, kDirect>(c, sums, [&](int j, Lanes e) __attribute__((always_inline)) {
          const LaneMask is_label = equal(label[j], int32_t(c));
          const Lanes g = select(is_label, Lanes{} + on, Lanes{} + off);
          add(j, e * (g * scale[j] - dot[j]) - select(is_label, ce_label[j], Lanes{}));
        });
      const Lanes above = all - below;
      float* place = to + c * kSides * kShifts * kLanes;
      add_to(place, above * left);
      add_to(place + kLanes, above * right);
      add_to(place + kShifts * kLanes, below * left);
      add_to(place + (kShifts + 1) * kLanes, below * right);
    }
    return true;
  }

  JML_MATH static void add_to(float* place, Lanes value) { store(place, 0, load(place, 0) + value); }

  // Writes a low row that is complete.
  void write(int64_t chunk, int64_t y) {
    float* rows = low_gradient[y % 2];
    const int64_t width = args.logits_spatial[2];
    for (int64_t c = 0; c < classes; ++c) {  // what is beyond the ends belongs to these
      float* row = rows + c * low.pitch + 1;
      row[0] += row[-1];
      row[width - 1] += row[width];
    }
    writer.write(chunk, 0, y, rows + 1, low.pitch);
    fill(rows, classes * low.pitch, 0.0f);
  }
};

}  // namespace jml::JML_ISA
