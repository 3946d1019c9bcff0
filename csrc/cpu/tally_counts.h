// Counts of pixels by class, and by pairs of classes.
#pragma once

#include "tally_maps.h"

namespace jml::JML_ISA {

// Threads add to the same integers, whose order does not matter.
JML_MATH void add_shared(int64_t* to, int64_t value) {
  if (value != 0) __atomic_fetch_add(to, value, __ATOMIC_RELAXED);
}

// Calls add(place, pixels) for the places of pixels in a row: all at once where a block of them has
// one. n is a multiple of kBlock.
template <typename Add>
JML_MATH void count_places(const int32_t* place, uint8_t* one_place, int n, Add add) {
  find_regions(place, one_place, n);
  for_labels(
      place, one_place, n,
      [&](int32_t at, int) __attribute__((always_inline)) { add(at, kBlock); },
      [&](int32_t at, int) __attribute__((always_inline)) { add(at, 1); });
}

// Pixels of an image by class: of the labels, of the predictions, and those that are of both. The
// number of classes stands for none.
class ImageCounts {
 public:
  // `part` of an image's counts: 0 of all pixels, 1 of boundaries.
  ImageCounts(const TallyArguments& tally, int part)
      : tally(tally),
        part(part),
        places(tally.args.classes + 1),
        counts(new int64_t[kImageRows * places]()),
        hit(new int32_t[tally.args.tile_pixels]),
        one_place(new uint8_t[tally.args.tile_pixels / kBlock]) {}
  ~ImageCounts() { leave(); }

  void enter(int64_t next) {
    if (next == image) return;
    leave();
    image = next;
  }

  void add(const int32_t* __restrict label, const int32_t* __restrict predicted, int n) {
    const int32_t none = int32_t(tally.args.classes);
    int32_t* const __restrict hits = hit.get();
    for (int i = 0; i < n; ++i) hits[i] = label[i] == predicted[i] ? label[i] : none;
    add_row(kHits, hits, n);
    add_row(kPredicted, predicted, n);
    add_row(kLabelled, label, n);
  }

 private:
  const TallyArguments& tally;
  const int part;
  const int64_t places;
  int64_t image = -1;
  std::unique_ptr<int64_t[]> counts;     // kImageRows x (C + 1)
  std::unique_ptr<int32_t[]> hit;        // P
  std::unique_ptr<uint8_t[]> one_place;  // P / kBlock

  void add_row(int row, const int32_t* place, int n) {
    int64_t* const to = counts.get() + row * places;
    count_places(place, one_place.get(), n,
                 [&](int32_t at, int pixels) __attribute__((always_inline)) { to[at] += pixels; });
  }

  void leave() {
    const int64_t classes = tally.args.classes;
    for (int row = 0; image >= 0 && row < kImageRows; ++row)
      for (int64_t c = 0; c < classes; ++c)
        add_shared(tally.of_images + ((image * 2 + part) * kImageRows + row) * classes + c,
                   counts[row * places + c]);
    fill(counts.get(), kImageRows * places, int64_t(0));
  }
};

// Pixels by label and prediction. A thread has a matrix of its own where that is small.
class Confusion {
 public:
  explicit Confusion(const TallyArguments& tally)
      : tally(tally),
        classes(tally.args.classes),
        counts(classes * classes <= kOwnCounts ? new int64_t[classes * classes + 1]() : nullptr),
        place(new int32_t[tally.args.tile_pixels]),
        one_place(new uint8_t[tally.args.tile_pixels / kBlock]) {}
  ~Confusion() {
    for (int64_t i = 0; counts && i < classes * classes; ++i)
      add_shared(tally.confusion + i, counts[i]);
  }

  void add(const int32_t* __restrict label, const int32_t* __restrict predicted, int n) {
    const int32_t c = int32_t(classes), none = c * c;
    int32_t* const __restrict places = place.get();
    for (int i = 0; i < n; ++i) places[i] = label[i] == c ? none : label[i] * c + predicted[i];
    if (counts) {
      int64_t* const to = counts.get();
      count_places(places, one_place.get(), n, [&](int32_t at, int pixels)
                       __attribute__((always_inline)) { to[at] += pixels; });
    } else {
      count_places(places, one_place.get(), n, [&](int32_t at, int pixels)
                       __attribute__((always_inline)) {
        if (at != none) add_shared(tally.confusion + at, pixels);
      });
    }
  }

 private:
  static constexpr int64_t kOwnCounts = 128 * 1024;  // 1 MiB
  const TallyArguments& tally;
  const int64_t classes;
  std::unique_ptr<int64_t[]> counts;     // C x C, and one for pixels that do not count
  std::unique_ptr<int32_t[]> place;      // P
  std::unique_ptr<uint8_t[]> one_place;  // P / kBlock
};

}  // namespace jml::JML_ISA
