// Rows of one number for each pixel: labels, targets, and the label's own terms.
#pragma once

#include "sums.h"

namespace jml::JML_ISA {

// Of pixels with codes of labels (< 0: none): which are valid, and the row of each label, which is
// `none` for a pixel that is not valid. Returns how many are valid.
template <typename T>
int place_labels(const int32_t* __restrict code, int32_t none, T* __restrict valid,
                 int32_t* __restrict row, int n) {
  int count = 0;
  for (int p = 0; p < n; ++p) {
    const bool counts = code[p] >= 0;
    valid[p] = counts ? T(1) : T(0);
    row[p] = counts ? code[p] : none;
    count += counts;
  }
  return count;
}

// The same where a mask (`valid` as it comes in) may exclude pixels. In a binary task label 1 is
// at row 0 (`shift` is 1), and label 0 at none.
template <typename T>
int place_labels(const int32_t* __restrict code, int32_t shift, int32_t none, T* __restrict valid,
                 int32_t* __restrict row, int n) {
  int count = 0;
  for (int p = 0; p < n; ++p) {
    const bool counts = code[p] >= 0 && valid[p] != 0;
    valid[p] = counts ? T(1) : T(0);
    row[p] = counts && code[p] >= shift ? code[p] - shift : none;
    count += counts;
  }
  return count;
}

// Labels mostly come in regions: pixels are taken by the block where all of it has one label, and
// one by one where not.
inline void find_regions(const int32_t* __restrict row, uint8_t* __restrict one_label, int n) {
  for (int block = 0; block < n / kBlock; ++block) {
    const int32_t* labels = row + block * kBlock;
    int32_t differ = 0;
    for (int i = 0; i < kBlock; ++i) differ |= labels[i] ^ labels[0];
    one_label[block] = differ == 0;
  }
}

// Calls region(row, p) for blocks of pixels p, p + 1, ... with one label, pixel(row, p) for others.
template <typename Region, typename Pixel>
JML_MATH void for_labels(const int32_t* row, const uint8_t* one_label, int n, Region region,
                         Pixel pixel) {
  for (int p = 0; p < n; p += kBlock)
    if (one_label[p / kBlock])
      region(row[p], p);
    else
      for (int i = p; i < p + kBlock; ++i) pixel(row[i], i);
}

template <typename T>
int count_valid(const T* __restrict valid, int n) {
  int count = 0;
  for (int p = 0; p < n; ++p) count += valid[p] != 0;
  return count;
}

// The target at the label and elsewhere, where `smoothed` (all pixels if null) and valid.
template <typename T>
void target_row(const int32_t* __restrict smoothed, T epsilon, T labels, const T* __restrict valid,
                T* __restrict on, T* __restrict off, int n) {
  for (int p = 0; p < n; ++p) {
    const LabelTarget<T> target =
        label_target(!smoothed || smoothed[p] ? epsilon : T(0), labels);
    on[p] = target.at_label * valid[p];
    off[p] = target.elsewhere * valid[p];
  }
}

// Pixels that do not count get 0, whatever they hold.
template <typename T>
void keep_valid(T* __restrict row, const T* __restrict valid, int n) {
  for (int p = 0; p < n; ++p) row[p] = valid[p] != 0 ? row[p] : T(0);
}

// The terms of x against y.
template <typename T>
void overlap_term_rows(const T* __restrict x, const T* __restrict y, T* __restrict tp,
                   T* __restrict fp, T* __restrict fn, T* __restrict xy, int n) {
  for (int p = 0; p < n; ++p) {
    const OverlapTerms<T> terms = jml::overlap_terms(x[p], y[p]);
    tp[p] = terms.true_positive;
    fp[p] = terms.false_positive;
    fn[p] = terms.false_negative;
    xy[p] = x[p] * y[p];
  }
}

// The label's terms. Its row holds x = 0 against the target `off`, which counted as fn: that is
// taken back. `miss` may be 1 - x, and is then the fn of a hard label.
template <typename T>
void label_terms(const T* __restrict x, const T* __restrict on, const T* __restrict off,
                 const T* __restrict miss, T* __restrict tp, T* __restrict fp, T* __restrict fn,
                 T* __restrict xy, int n) {
  for (int p = 0; p < n; ++p) {
    const OverlapTerms<T> terms = jml::overlap_terms(x[p], on[p]);
    tp[p] = terms.true_positive;
    fp[p] = terms.false_positive;
    fn[p] = miss && off[p] == 0 ? miss[p] : terms.false_negative - off[p];
    xy[p] = x[p] * on[p];
  }
}

}  // namespace jml::JML_ISA
