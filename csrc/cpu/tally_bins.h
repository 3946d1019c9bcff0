// Histograms of probabilities.
//
// What a tile adds to a bin is one number of 64 bits, so that a pixel costs one addition: pixels,
// correct ones, and their probabilities in units of 2^-30.
//
// Of the probabilities of every class most are in bin 0: only those that are not are looked at one
// by one. Bin 0 has the rest, which the launcher takes from totals (finish_classwise).
#pragma once

#include "tally_counts.h"

namespace jml::JML_ISA {

// ---- one number for a bin ------------------------------------------------------------------
constexpr int kProbabilityBits = 41, kCountBits = 11;  // of 1024 pixels, each at most 2^30
static_assert(kMaxTilePixels <= 1024 && kProbabilityBits + 2 * kCountBits <= 63);

JML_MATH uint64_t packed_pixel(uint64_t units, bool is_correct) {
  return units | uint64_t(is_correct) << kProbabilityBits |
         uint64_t(1) << (kProbabilityBits + kCountBits);
}

// Histograms side by side, `bins` numbers in all: those of a tile, packed, which are then added to
// kBinColumns rows of sums.
class PackedBins {
 public:
  explicit PackedBins(int64_t bins) : bins(bins), packed(new uint64_t[kLanes * bins]()) {}

  // Neighbouring pixels, which mostly have one bin, do not wait for each other.
  JML_MATH void add(int i, int32_t bin, uint64_t pixel) { packed[i % kLanes * bins + bin] += pixel; }

  // sums: kBinColumns x bins
  void move_to(int64_t* __restrict sums) {
    constexpr uint64_t kCount = (1 << kCountBits) - 1;
    uint64_t* const __restrict from = packed.get();
    for (int64_t bin = 0; bin < bins; ++bin) {
      uint64_t sum = 0;
      for (int lane = 0; lane < kLanes; ++lane) {
        sum += from[lane * bins + bin];
        from[lane * bins + bin] = 0;
      }
      sums[kBinPixels * bins + bin] += sum >> (kProbabilityBits + kCountBits);
      sums[kBinCorrect * bins + bin] += sum >> kProbabilityBits & kCount;
      sums[kBinProbability * bins + bin] += sum & ((uint64_t(1) << kProbabilityBits) - 1);
    }
  }

 private:
  static constexpr int kLanes = 4;
  const int64_t bins;
  std::unique_ptr<uint64_t[]> packed;  // kLanes x bins
};

// ---- probabilities in units ----------------------------------------------------------------
// Rows of probabilities are multiplied by kProbabilityUnits, a power of two, which rounds nothing.

// The nearest integers, even ones of two, of numbers from 0 to 2^30.
template <typename T>
JML_MATH Vector<typename Format<T>::Int> nearest(Vector<T> x) {
  using Int = typename Format<T>::Int;
#if JML_VECTOR_BYTES == 64
  if constexpr (std::is_same_v<T, float>)
    return (Vector<Int>)_mm512_cvtps_epi32((__m512)x);
#elif JML_VECTOR_BYTES == 32
  if constexpr (std::is_same_v<T, float>)
    return (Vector<Int>)_mm256_cvtps_epi32((__m256)x);
#endif
  // From here on all numbers are integers, and sums are rounded to them.
  constexpr T kWhole = T(typename Format<T>::Int(1) << Format<T>::kMantissa);
  const Vector<T> rounded = x < kWhole ? (x + kWhole) - kWhole : x;
  return __builtin_convertvector(rounded, Vector<Int>);
}

// Of probabilities in units: which of `bins` bins they are in, times kProbabilityUnits.
template <typename T>
JML_MATH int32_t bin_of(T scaled, int64_t bins) {
  const auto bin = int32_t(scaled * T(1.0 / kProbabilityUnits));
  return bin < bins ? bin : int32_t(bins) - 1;  // 1 is in the last one
}

// Which numbers of a vector are at least `least`, one bit each.
template <typename T>
JML_MATH uint32_t lanes_from(Vector<T> x, T least) {
#if JML_VECTOR_BYTES == 64
  if constexpr (std::is_same_v<T, float>)
    return _mm512_cmp_ps_mask((__m512)x, _mm512_set1_ps(least), _CMP_GE_OQ);
  else
    return _mm512_cmp_pd_mask((__m512d)x, _mm512_set1_pd(least), _CMP_GE_OQ);
#elif JML_VECTOR_BYTES == 32
  if constexpr (std::is_same_v<T, float>)
    return _mm256_movemask_ps(_mm256_cmp_ps((__m256)x, _mm256_set1_ps(least), _CMP_GE_OQ));
  else
    return _mm256_movemask_pd(_mm256_cmp_pd((__m256d)x, _mm256_set1_pd(least), _CMP_GE_OQ));
#else
  uint32_t lanes = 0;
  for (int i = 0; i < kWidth<T>; ++i) lanes |= uint32_t(x[i] >= least) << i;
  return lanes;
#endif
}

// The sum of a row of integers up to 2^30.
template <typename Int>
struct UnitSum {
  Vector<uint64_t> lanes = {};

  JML_MATH void add(Vector<Int> units) {
    const auto wide = bit_cast<Vector<uint64_t>>(units);
    if constexpr (sizeof(Int) == sizeof(uint64_t)) {
      lanes += wide;
    } else {
      lanes += wide & 0xffffffffu;
      lanes += wide >> 32;
    }
  }
  int64_t total() const {
    uint64_t sum = 0;
    for (int i = 0; i < kWidth<uint64_t>; ++i) sum += lanes[i];
    return int64_t(sum);
  }
};

// ---- confidences ---------------------------------------------------------------------------

// Of all pixels, by their confidence: those at no boundary of the labels, and those at one.
template <typename T>
class ConfidenceBins {
 public:
  explicit ConfidenceBins(const TallyArguments& tally)
      : tally(tally),
        bins(tally.bins),
        packed(2 * bins),
        sums(new int64_t[kBinColumns * 2 * bins]()),
        bin(new int32_t[tally.args.tile_pixels]),
        pixel(new uint64_t[tally.args.tile_pixels]) {}

  ~ConfidenceBins() {
    for (int64_t i = 0; i < 2 * bins; ++i)
      for (int column = 0; column < kBinColumns; ++column) {
        const int64_t sum = sums[column * 2 * bins + i];
        add_shared(tally.calibration + i % bins * kBinColumns + column, sum);
        if (i >= bins) add_shared(tally.calibration + i * kBinColumns + column, sum);
      }
  }

  // `label` and `predicted` are the number of classes where a pixel does not count. on_boundary may
  // be null: none is.
  void add(const T* __restrict confidence, const T* __restrict valid,
           const int32_t* __restrict label, const int32_t* __restrict predicted,
           const int32_t* __restrict on_boundary, int n) {
    find_units(confidence, n);
    int32_t* const __restrict bins_of = bin.get();
    uint64_t* const __restrict pixels = pixel.get();
    for (int i = 0; i < n; ++i) bins_of[i] = bin_of(confidence[i] * T(bins), bins);
    for (int i = 0; i < n; ++i)
      pixels[i] = valid[i] != 0 ? packed_pixel(pixels[i], label[i] == predicted[i]) : 0;
    for (int i = 0; on_boundary && i < n; ++i)
      bins_of[i] += on_boundary[i] ? int32_t(bins) : 0;
    for (int i = 0; i < n; ++i) packed.add(i, bins_of[i], pixels[i]);
    packed.move_to(sums.get());
  }

 private:
  const TallyArguments& tally;
  const int64_t bins;
  PackedBins packed;
  std::unique_ptr<int64_t[]> sums;    // kBinColumns x 2 x bins
  std::unique_ptr<int32_t[]> bin;     // P
  std::unique_ptr<uint64_t[]> pixel;  // P  what it adds to its bin

  void find_units(const T* confidence, int n) {
    using Int = typename Format<T>::Int;
    for (int i = 0; i < n; i += kWidth<T>) {
      const Vector<Int> units = nearest<T>(load(confidence, i));
      for (int j = 0; j < kWidth<T>; ++j) pixel[i + j] = uint64_t(units[j]);
    }
  }
};

// ---- the probabilities of every class ------------------------------------------------------

template <typename T>
class ClassBins {
 public:
  explicit ClassBins(const TallyArguments& tally)
      : tally(tally),
        bins(tally.bins),
        classes(tally.args.classes),
        packed(bins),
        sums(new int64_t[classes * kBinColumns * bins]()),
        totals(new int64_t[classes]()) {}

  ~ClassBins() {
    for (int64_t c = 0; c < classes; ++c) {
      int64_t* const to = tally.classwise + c * bins * kBinColumns;
      for (int64_t bin = 0; bin < bins; ++bin)
        for (int column = 0; column < kBinColumns; ++column)
          add_shared(to + bin * kBinColumns + column,
                     sums[(c * kBinColumns + column) * bins + bin]);
      add_shared(to + kBinProbability, totals[c]);
    }
  }

  // A row of class c, of which x times `scale` is the probability in units.
  void add(int64_t c, const T* x, const T* scale, const int32_t* label, int n) {
    using Int = typename Format<T>::Int;
    // With one bin none is above it.
    const T least = bins > 1 ? T(kProbabilityUnits) : std::numeric_limits<T>::infinity();
    UnitSum<Int> sum;
    bool any = false;
    for (int i = 0; i < n; i += kWidth<T>) {
      const Vector<T> p = load(x, i) * load(scale, i), scaled = p * T(bins);
      const Vector<Int> units = nearest<T>(p);
      sum.add(units);
      uint32_t lanes = lanes_from<T>(scaled, least);
      any |= lanes != 0;
      for (; lanes != 0; lanes &= lanes - 1) {
        const int j = __builtin_ctz(lanes);
        packed.add(j, bin_of(T(scaled[j]), bins),
                   packed_pixel(uint64_t(units[j]), label[i + j] == int32_t(c)));
      }
    }
    totals[c] += sum.total();
    if (any) packed.move_to(sums.get() + c * kBinColumns * bins);
  }

 private:
  const TallyArguments& tally;
  const int64_t bins, classes;
  PackedBins packed;
  std::unique_ptr<int64_t[]> sums;    // C x kBinColumns x bins
  std::unique_ptr<int64_t[]> totals;  // C  probabilities of all pixels
};

}  // namespace jml::JML_ISA
