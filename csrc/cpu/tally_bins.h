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
  JML_MATH void add(int i, int32_t bin, uint64_t pixel) {
    packed[bin * kLanes + i % kLanes] += pixel;
  }

  // sums: kBinColumns x bins
  void move_to(int64_t* __restrict sums) {
    constexpr uint64_t kCount = (1 << kCountBits) - 1;
    uint64_t* const __restrict from = packed.get();
    for (int64_t bin = 0; bin < bins; ++bin) {
      uint64_t sum = 0;
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        sum += from[bin * kLanes + lane];
        from[bin * kLanes + lane] = 0;
      }
      sums[kBinPixels * bins + bin] += sum >> (kProbabilityBits + kCountBits);
      sums[kBinCorrect * bins + bin] += sum >> kProbabilityBits & kCount;
      sums[kBinProbability * bins + bin] += sum & ((uint64_t(1) << kProbabilityBits) - 1);
    }
  }

 private:
  static constexpr int64_t kLanes = 4;
  const int64_t bins;
  std::unique_ptr<uint64_t[]> packed;  // bins x kLanes
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
  const auto bin = int32_t(scaled * T(1.0 / kProbabilityUnits)), last = int32_t(bins) - 1;
  return bin < last ? bin : last;  // 1 is in the last one
}

// A list of what the numbers that are at least `least` add to their bins: numbers as bin_of takes
// them, units with a flag where a pixel is correct.
template <typename T>
class BinList {
 public:
  using Int = typename Format<T>::Int;
  static constexpr Int kCorrect = std::numeric_limits<Int>::min();  // a sign: units have none

  explicit BinList(int64_t pixels) : scaled(new T[pixels]), units(new Int[pixels]) {}

  // One vector more, of which others may be taken later. Room is needed for a whole one.
  JML_MATH int append(int size, T least, Vector<T> new_scaled, Vector<Int> new_units) {
    T* const to = scaled.get() + size;
    Int* const to_units = units.get() + size;
#if JML_VECTOR_BYTES == 64
    if constexpr (std::is_same_v<T, float>) {
      const __mmask16 fits =
          _mm512_cmp_ps_mask((__m512)new_scaled, _mm512_set1_ps(least), _CMP_GE_OQ);
      if (fits == 0) return size;
      _mm512_storeu_ps(to, _mm512_maskz_compress_ps(fits, (__m512)new_scaled));
      _mm512_storeu_si512(to_units, _mm512_maskz_compress_epi32(fits, (__m512i)new_units));
      return size + __builtin_popcount(fits);
    }
#elif JML_VECTOR_BYTES == 32
    if constexpr (std::is_same_v<T, float>)
      if (_mm256_testz_ps(_mm256_set1_ps(-0.0f),
                          _mm256_cmp_ps((__m256)new_scaled, _mm256_set1_ps(least), _CMP_GE_OQ)))
        return size;
#endif
    int taken = 0;
    for (int i = 0; i < kWidth<T>; ++i) {
      to[taken] = new_scaled[i];
      to_units[taken] = new_units[i];
      taken += new_scaled[i] >= least;
    }
    return size + taken;
  }

  T scaled_at(int i) const { return scaled[i]; }
  uint64_t pixel_at(int i) const {
    return packed_pixel(uint64_t(units[i] & ~kCorrect), units[i] < 0);
  }

 private:
  std::unique_ptr<T[]> scaled;
  std::unique_ptr<Int[]> units;
};

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
        units(new Int[tally.args.tile_pixels]),
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

  // `label` and `predicted` are the number of classes where a pixel does not count. on_boundary is
  // 1 or 0, and may be null: none is.
  void add(const T* __restrict confidence, const T* __restrict valid,
           const int32_t* __restrict label, const int32_t* __restrict predicted,
           const int32_t* __restrict on_boundary, int n) {
    for (int i = 0; i < n; i += kWidth<T>) store(units.get(), i, nearest<T>(load(confidence, i)));
    const Int* const __restrict units_of = units.get();
    int32_t* const __restrict bins_of = bin.get();
    uint64_t* const __restrict pixels = pixel.get();
    const int64_t bins = this->bins;  // in a register
    const T factor = T(bins);
    for (int i = 0; i < n; ++i) bins_of[i] = bin_of(confidence[i] * factor, bins);
    for (int i = 0; i < n; ++i)
      pixels[i] =
          valid[i] != 0 ? packed_pixel(uint64_t(units_of[i]), label[i] == predicted[i]) : 0;
    if (on_boundary)
      for (int i = 0; i < n; ++i) bins_of[i] += on_boundary[i] * int32_t(bins);
    for (int i = 0; i < n; ++i) packed.add(i, bins_of[i], pixels[i]);
    packed.move_to(sums.get());
  }

 private:
  using Int = typename Format<T>::Int;
  const TallyArguments& tally;
  const int64_t bins;
  PackedBins packed;
  std::unique_ptr<int64_t[]> sums;    // kBinColumns x 2 x bins
  std::unique_ptr<Int[]> units;       // P
  std::unique_ptr<int32_t[]> bin;     // P
  std::unique_ptr<uint64_t[]> pixel;  // P  what it adds to its bin
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
        list(tally.args.tile_pixels + kWidth<T>),
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
    typedef int32_t Narrow __attribute__((vector_size(kWidth<T> * sizeof(int32_t))));
    // With one bin none is above it.
    const T least = bins > 1 ? T(kProbabilityUnits) : std::numeric_limits<T>::infinity();
    const int64_t bins = this->bins;  // in a register
    const T factor = T(bins);
    UnitSum<Int> sum;
    int size = 0;
    for (int i = 0; i < n; i += kWidth<T>) {
      const Vector<T> p = load(x, i) * load(scale, i);
      const Vector<Int> units = nearest<T>(p);
      sum.add(units);
      Narrow labels;
      memcpy(&labels, label + i, sizeof(labels));
      const auto is_correct = __builtin_convertvector(labels, Vector<Int>) == Int(c);
      size = list.append(size, least, p * factor, units | (is_correct & BinList<T>::kCorrect));
    }
    totals[c] += sum.total();
    if (size == 0) return;
    for (int i = 0; i < size; ++i)
      packed.add(i, bin_of(list.scaled_at(i), bins), list.pixel_at(i));
    packed.move_to(sums.get() + c * kBinColumns * bins);
  }

 private:
  const TallyArguments& tally;
  const int64_t bins, classes;
  PackedBins packed;
  BinList<T> list;
  std::unique_ptr<int64_t[]> sums;    // C x kBinColumns x bins
  std::unique_ptr<int64_t[]> totals;  // C  probabilities of all pixels
};

}  // namespace jml::JML_ISA
