// Counts of pixels by class, and by pairs of classes.
#pragma once

#include "tally_maps.h"

namespace jml::JML_ISA {

// Threads add to the same integers, whose order does not matter.
JML_MATH void add_shared(int64_t* to, int64_t value) {
  if (value != 0) __atomic_fetch_add(to, value, __ATOMIC_RELAXED);
}

// Calls add(place, i, pixels) for the places of pixels in a row, i being one of them: all at once
// where a block of them has one. n is a multiple of kBlock.
template <typename Add>
JML_MATH void count_places(const int32_t* place, uint8_t* one_place, int n, Add add) {
  find_regions(place, one_place, n);
  for_labels(
      place, one_place, n,
      [&](int32_t at, int first) __attribute__((always_inline)) { add(at, first, kBlock); },
      [&](int32_t at, int i) __attribute__((always_inline)) { add(at, i, 1); });
}

// Pixels of an image by class: of the labels, of the predictions, and those that are of both; and,
// if asked for, pixels of all images by pairs of both. Everywhere the number of classes stands for
// none.
//
// Pairs tell all of it, and take one addition for a pixel: they are counted where there are enough
// pixels in an image to make that worth adding up.
class ImageCounts {
 public:
  // `part` of an image's counts: 0 of all pixels, 1 of boundaries. `confusion` may be null.
  ImageCounts(const TallyArguments& tally, int part, int64_t* confusion)
      : tally(tally),
        confusion(confusion),
        part(part),
        classes(int32_t(tally.args.classes)),
        ways(classes + 1),
        pairs(ways * ways <= std::min(kMostPairs, tally.args.pixels) ? ways * ways : 0),
        lanes(kLanes * pairs * int64_t(sizeof(int64_t)) <= kLanesBytes ? kLanes : 1),
        of_pairs(new int64_t[lanes * pairs]()),
        of_classes(new int64_t[kImageRows * ways]()),
        place(new int32_t[tally.args.tile_pixels]),
        one_place(new uint8_t[tally.args.tile_pixels / kBlock]) {}
  ~ImageCounts() { leave(); }

  void enter(int64_t next) {
    if (next == image) return;
    leave();
    image = next;
  }

  void add(const int32_t* label, const int32_t* predicted, int n) {
    if (pairs)
      add_pairs(label, predicted, n);
    else
      add_classes(label, predicted, n);
  }

 private:
  static constexpr int64_t kMostPairs = 128 * 1024;  // 1 MiB
  static constexpr int64_t kLanes = 4, kLanesBytes = 128 * 1024;

  const TallyArguments& tally;
  int64_t* const confusion;
  const int part;
  const int32_t classes;
  const int64_t ways, pairs, lanes;
  int64_t image = -1;
  std::unique_ptr<int64_t[]> of_pairs;    // lanes x (C + 1) x (C + 1)
  std::unique_ptr<int64_t[]> of_classes;  // kImageRows x (C + 1)
  std::unique_ptr<int32_t[]> place;       // P
  std::unique_ptr<uint8_t[]> one_place;   // P / kBlock

  // Neighbouring pixels, which mostly are of one pair, do not wait for each other.
  void add_pairs(const int32_t* __restrict label, const int32_t* __restrict predicted, int n) {
    int32_t* const __restrict places = place.get();
    for (int i = 0; i < n; ++i) places[i] = label[i] * int32_t(ways) + predicted[i];
    int64_t* const counts = of_pairs.get();
    const int64_t last_lane = lanes - 1, size = pairs;
    count_places(places, one_place.get(), n, [&](int32_t at, int i, int pixels)
                     __attribute__((always_inline)) {
      counts[(i & last_lane) * size + at] += pixels;
    });
  }

  void add_classes(const int32_t* __restrict label, const int32_t* __restrict predicted, int n) {
    int32_t* const __restrict hits = place.get();
    for (int i = 0; i < n; ++i) hits[i] = label[i] == predicted[i] ? label[i] : classes;
    const auto add_row = [&](ImageRow row, const int32_t* places) {
      int64_t* const counts = of_classes.get() + row * ways;
      count_places(places, one_place.get(), n, [&](int32_t at, int, int pixels)
                       __attribute__((always_inline)) { counts[at] += pixels; });
    };
    add_row(kHits, hits);
    add_row(kPredicted, predicted);
    add_row(kLabelled, label);
    for (int i = 0; confusion && i < n; ++i)
      if (label[i] != classes)
        add_shared(confusion + int64_t(label[i]) * classes + predicted[i], 1);
  }

  void leave() {
    if (image < 0) return;
    int64_t* const counts = of_classes.get();
    if (pairs) add_up_pairs(counts);
    int64_t* const to = tally.of_images + (image * 2 + part) * kImageRows * classes;
    for (int row = 0; row < kImageRows; ++row)
      for (int32_t c = 0; c < classes; ++c)
        add_shared(to + row * classes + c, counts[row * ways + c]);
    fill(counts, kImageRows * ways, int64_t(0));
  }

  void add_up_pairs(int64_t* counts) {
    int64_t* pair = of_pairs.get();
    for (int32_t label = 0; label < ways; ++label)
      for (int32_t predicted = 0; predicted < ways; ++predicted, ++pair) {
        int64_t sum = 0;
        for (int64_t lane = 0; lane < lanes; ++lane) {
          sum += pair[lane * pairs];
          pair[lane * pairs] = 0;
        }
        counts[kLabelled * ways + label] += sum;
        counts[kPredicted * ways + predicted] += sum;
        if (label == predicted) counts[kHits * ways + label] += sum;
        if (confusion && label < classes && predicted < classes)
          add_shared(confusion + label * classes + predicted, sum);
      }
  }
};

}  // namespace jml::JML_ISA
