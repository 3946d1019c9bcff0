// Exponentials of interpolated logits, and their sums over the classes.
//
// Down a cell the logits of a class are an arithmetic progression, z_j = z_0 + j step in row j, so
// that their exponentials are a geometric one: e_j = E q^j with E = 2^z_0 and q = 2^step, two
// exponentials for all rows of a cell. E and q of all classes, at one vector of pixels of a row, stay
// in cache between the loop over classes that sums and the one that uses the sums.
//
// Logits are relative to the largest of each low pixel (low_logits.h), and so <= 0. Two things may
// go wrong, in float32, where neighbouring low pixels are far apart:
// - all exponentials of a pixel are tiny, where its corners' largest classes differ: its sum has
//   underflowed, or is about to;
// - E has underflowed, and an exponential further down the cell has not: 0 q^j is not it.
// Such vectors are done `directly`: with a maximum of their own in each row, and an exponential for
// each element.
#pragma once

#include "cell_labels.h"
#include "low_logits.h"

namespace jml::JML_ISA {

// A sum of exponentials that is larger than this has its digits.
constexpr float kLeastSum = 0x1p-60f;
// Below kLeastLog a power of 2 may be 0. Classes whose powers are all below kNegligibleLog add
// nothing to such sums.
constexpr float kLeastLog = -100.0f, kNegligibleLog = -90.0f;

// The rows of a cell, or a part of them.
struct CellRows {
  int64_t y = 0;  // the first full row
  int count = 0;
  float step = 0;            // from a row to the next, in low rows
  float weight[kMaxRows];    // of the cell's lower low row
  const float *top = nullptr, *bottom = nullptr;  // the low rows between which they lie
};

// Sums over classes of the exponentials e of a vector of pixels in each row.
template <int kRows>
struct ClassSums {
  Lanes others[kRows];  // of classes that are not the pixel's label
  Lanes own[kRows];     // of the label
  Lanes dot[kRows];     // of all: sum of g e, where it is asked for
  Lanes shift[kRows];   // directly: the largest logit
  // With kLogs, in units of log 2: the label's logit, and the sum of all.
  Lanes own_log[kRows], log_sum[kRows];
};

// g of a hard label, for each class.
struct HardRules {
  const float *elsewhere = nullptr, *at_label = nullptr;
};

class Powers {
 public:
  Powers(const Arguments& args, const LowLogits& low, const PolyphaseColumns& columns,
         const CellLabels& labels)
      : classes(args.classes), pitch(low.pitch), columns(columns), labels(labels) {}

  void allocate(Memory& memory) { memory.allocate(kept, classes * 2 * kLanes); }

  CellRows rows;
  // An exponential of a label that is smaller has no logarithm: its vector is done directly.
  float least_own = -1;

  // Moves to a vector of pixels: a phase of a group of lanes.
  void enter(int phase, int group) {
    at = int64_t(group) * kLanes + columns.offset[phase] + 1;
    share = jml::JML_ISA::load(columns.weight.get(), phase * columns.padded + group * kLanes);
  }

  // Returns false if the vector is to be done directly. With kDot `dot` is summed up too, and with
  // kLogs there are logarithms.
  template <int kRows, bool kDirect, bool kDot, bool kLogs>
  JML_MATH bool sum(const IntLanes* label, const HardRules& rules, ClassSums<kRows>& sums) {
    const int count = kDirect ? rows.count : kRows;
    const float step_of_rows = rows.step, first_weight = rows.weight[0];
    Lanes others[kRows], own[kRows], dot[kRows], shift[kRows], own_log[kRows];
    Lanes top_sum = {}, difference_sum = {};
#pragma GCC unroll 8
    for (int j = 0; j < kRows; ++j)
      others[j] = own[j] = dot[j] = shift[j] = own_log[j] = Lanes{};
    if (kDirect) find_largest<kRows>(shift);
    LaneMask is_lost = kNoLanes;
    const uint8_t* here = labels.here.get();
    for (int64_t c = 0; c < classes; ++c) {
      Lanes top, difference, e = {}, q = {};
      corners(c, top, difference);
      if (kLogs) {
        top_sum += top;
        difference_sum += difference;
      }
      if (kDirect) {
        keep(c, top, difference);
      } else {
        const Lanes z = top + difference * first_weight;
        const Lanes step = difference * step_of_rows;
        e = exp2_lanes(z);
        if (kRows > 1) {
          q = exp2_lanes(smaller(Lanes{} + 120.0f, step));
          const Lanes last = z + step * float(kRows - 1);
          // (z < kLeastLog) and (last > kNegligibleLog)
          is_lost |= greater(select(greater(Lanes{} + kLeastLog, z), last, Lanes{} - 1e30f),
                             Lanes{} + kNegligibleLog);
        }
        keep(c, e, q);
      }
      const auto element = [&](int j) __attribute__((always_inline)) {
        if (kDirect) e = exp2_lanes(top + difference * rows.weight[j] - shift[j]);
        return e;
      };
      const float off = kDot ? rules.elsewhere[c] : 0;
      if (!here[c]) {
#pragma GCC unroll 8
        for (int j = 0; j < count; ++j) {
          const Lanes power = element(j);
          others[j] += power;
          if (kDot) dot[j] += power * off;
          if (!kDirect && j + 1 < kRows) e *= q;
        }
      } else {
        const float on = kDot ? rules.at_label[c] : 0;
#pragma GCC unroll 8
        for (int j = 0; j < count; ++j) {
          const Lanes power = element(j);
          const LaneMask is_label = equal(label[j], int32_t(c));
          others[j] = add_where(inverted(is_label), others[j], power);
          own[j] = select(is_label, power, own[j]);
          if (kLogs) own_log[j] = select(is_label, top + difference * rows.weight[j], own_log[j]);
          if (kDot) dot[j] += power * select(is_label, Lanes{} + on, Lanes{} + off);
          if (!kDirect && j + 1 < kRows) e *= q;
        }
      }
    }
    if (!kDirect)
#pragma GCC unroll 8
      for (int j = 0; j < kRows; ++j) {
        is_lost |= inverted(greater(others[j] + own[j], Lanes{} + kLeastSum));
        is_lost |= at_least_0(label[j]) & greater(Lanes{} + least_own, own[j]);
      }
#pragma GCC unroll 8
    for (int j = 0; j < kRows; ++j) {
      sums.others[j] = others[j];
      sums.own[j] = own[j];
      if (kDot) sums.dot[j] = dot[j];
      if (kDirect) sums.shift[j] = shift[j];
      if (kLogs) {
        sums.own_log[j] = own_log[j];
        sums.log_sum[j] = top_sum + difference_sum * rows.weight[j];
      }
    }
    return !any(is_lost);
  }

  // Calls use(j, e) for the rows of a class, after `sum`.
  template <int kRows, bool kDirect, typename Use>
  JML_MATH void for_rows(int64_t c, const ClassSums<kRows>& sums, Use use) const {
    Lanes e = jml::JML_ISA::load(kept, int(c) * 2 * kLanes);
    const Lanes q = jml::JML_ISA::load(kept, int(c) * 2 * kLanes + kLanes);
    if (kDirect) {
      for (int j = 0; j < rows.count; ++j)
        use(j, exp2_lanes(e + q * rows.weight[j] - sums.shift[j]));
    } else {
#pragma GCC unroll 8
      for (int j = 0; j < kRows; ++j) {
        use(j, e);
        if (j + 1 < kRows) e *= q;
      }
    }
  }

  Lanes upper_share() const { return share; }

 private:
  const int64_t classes, pitch;
  const PolyphaseColumns& columns;
  const CellLabels& labels;
  float* kept;  // classes x 2 x kLanes: E and q; directly, the top's number and the difference
  int64_t at = 0;
  Lanes share;

  JML_MATH void keep(int64_t c, Lanes first, Lanes second) {
    store(kept, int(c) * 2 * kLanes, first);
    store(kept, int(c) * 2 * kLanes + kLanes, second);
  }

  // Interpolated along the rows: what the upper low row gives, and how much more the lower one.
  JML_MATH void corners(int64_t c, Lanes& top, Lanes& difference) const {
    const float *a = rows.top + c * pitch + at, *b = rows.bottom + c * pitch + at;
    const Lanes a0 = jml::JML_ISA::load(a, 0), b0 = jml::JML_ISA::load(b, 0);
    top = (jml::JML_ISA::load(a, 1) - a0) * share + a0;
    difference = (jml::JML_ISA::load(b, 1) - b0) * share + b0 - top;
  }

  template <int kRows>
  JML_MATH void find_largest(Lanes* shift) const {
    for (int j = 0; j < kRows; ++j) shift[j] = Lanes{} - std::numeric_limits<float>::infinity();
    for (int64_t c = 0; c < classes; ++c) {
      Lanes top, difference;
      corners(c, top, difference);
      for (int j = 0; j < rows.count; ++j)
        shift[j] = larger<float>(top + difference * rows.weight[j], shift[j]);
    }
  }
};

}  // namespace jml::JML_ISA
