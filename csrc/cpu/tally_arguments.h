// What the launcher (tally.cpp) hands to the kernels that count for metrics (tally.h). What they
// count is described in jml_kernels/reference_tally.py; all of it is integers, so that threads may
// add to it in any order.
#pragma once

#include "arguments.h"

namespace jml {

// Probabilities are added up in this unit (PROBABILITY_UNIT).
constexpr int64_t kProbabilityUnits = int64_t{1} << 30;

// The columns of bins (BIN_COLUMNS).
enum BinColumn { kBinPixels, kBinCorrect, kBinProbability, kBinColumns };

// Rows of an image's counts (IMAGE_ROWS): these three of all pixels, and then of boundary pixels.
enum ImageRow { kHits, kPredicted, kLabelled, kImageRows };

// A map of codes, one for each pixel of each image, one behind the other: the class, kIgnored, or
// the number of classes for a label that is out of range. Unlike kOutOfRange that is another label
// to its neighbours, and no ignored one.
struct CodeMap {
  void* data = nullptr;
  int bytes = 1;  // of a code: the fewest that hold it

  static int bytes_for(int64_t classes) {
    return classes <= INT8_MAX ? 1 : classes <= INT16_MAX ? 2 : 4;
  }
};

// Calls visit(pointer of the map's type).
template <typename Visit>
JML_MATH void visit_codes(const CodeMap& map, Visit visit) {
  switch (map.bytes) {
    case 1: return visit(static_cast<int8_t*>(map.data));
    case 2: return visit(static_cast<int16_t*>(map.data));
    default: return visit(static_cast<int32_t*>(map.data));
  }
}

struct TallyArguments {
  const Arguments& args;

  CodeMap labels;       // in which nothing is masked
  CodeMap predictions;  // ignored where the label is; none without boundaries

  int64_t bins = 1;
  // (images, 2, kImageRows, classes); (classes, classes), rows are labels; (1)
  int64_t *of_images = nullptr, *confusion = nullptr, *wrong = nullptr;
  // Null if not asked for: (2, bins, kBinColumns), of all pixels and of the labels' boundaries;
  // (classes, bins, kBinColumns), whose bins 0 are for the launcher to finish (tally_bins.h).
  int64_t *calibration = nullptr, *classwise = nullptr;

  bool has_boundaries() const { return args.boundary_size > 0; }
};

// For chunks [begin, end): labels -> their map, and how many are wrong; logits -> the map of
// predictions, and all counts but those of boundaries; both maps -> the counts of boundaries.
#define JML_DECLARE_TALLY(isa)                                         \
  namespace isa {                                                      \
  void map_labels(const TallyArguments&, int64_t begin, int64_t end);  \
  void tally(const TallyArguments&, int64_t begin, int64_t end);       \
  void tally_boundaries(const TallyArguments&, int64_t begin, int64_t end); \
  }
JML_DECLARE_TALLY(baseline)
JML_DECLARE_TALLY(avx2)
JML_DECLARE_TALLY(avx512)
#undef JML_DECLARE_TALLY

}  // namespace jml
