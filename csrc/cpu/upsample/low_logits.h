// Low rows of logits, less the largest of each pixel's classes. Interpolated logits are then <= 0,
// because the weights are convex, and no pass over the full size looks for a maximum. What is taken
// off is the same for all classes of an interpolated pixel, so that its softmax does not change. They
// are multiplied by log2(e) too: powers of 2 follow.
#pragma once

#include "columns.h"

namespace jml::JML_ISA {

class LowLogits {
 public:
  const int64_t pitch;  // between classes

  LowLogits(const Arguments& args, const PolyphaseColumns& columns)
      : pitch(pitch_of(args, columns)), args(args), width(args.logits_spatial[2]) {}

  // The column before the first, and what lanes read beyond the last, repeat these.
  static int64_t pitch_of(const Arguments& args, const PolyphaseColumns& columns) {
    const int64_t numbers = std::max<int64_t>(args.logits_spatial[2], columns.padded) + 3;
    const int64_t vectors = (numbers + 15) / 16;
    return (vectors | 1) * 16;  // an odd number of lines: rows do not fight for cache sets
  }

  void allocate(Memory& memory) {
    memory.allocate_each<float>({&rows[0], &rows[1]}, args.classes * pitch);
    memory.allocate_each<uint8_t>({&unfit[0], &unfit[1]}, pitch);
    memory.allocate(largest, width);
  }

  void forget() { held[0] = held[1] = -1; }

  // Low row y of all classes, classes x pitch: number 1 is that of column 0.
  const float* row(int64_t image, int64_t y) {
    const int slot = int(y % 2);
    if (held[slot] != y) load(image, held[slot] = y, slot);
    return rows[slot];
  }

  // For each number of a row whether it is unfit: it has differences that are no numbers, or too
  // large to be interpolated. It is 0 then, and may be read for pixels that do not count. Null if a
  // row, one of the two that were asked for last, has none.
  const uint8_t* unfit_in_row(int64_t y) const { return any_unfit[y % 2] ? unfit[y % 2] : nullptr; }

 private:
  const Arguments& args;
  const int64_t width;
  float* rows[2];  // neighbouring rows
  float* largest;  // width
  uint8_t* unfit[2];  // pitch
  bool any_unfit[2];
  int64_t held[2] = {-1, -1};

  void load(int64_t image, int64_t y, int slot) {
    float* to = rows[slot];
    for (int64_t start = 0; start < width; start += kMaxTilePixels) {
      const Pixels piece{image, y * width + start,
                         int(std::min<int64_t>(kMaxTilePixels, width - start))};
      fill_tile(args.logits, image, Segments(args.logits, args.logits_spatial, piece), args.classes,
                to + 1 + start, pitch);
    }
    copy(to + 1, width, largest);
    for (int64_t c = 1; c < args.classes; ++c) raise(to + c * pitch + 1, int(width), largest);
    int is_unfit = 0;
    for (int64_t c = 0; c < args.classes; ++c)
      is_unfit |= lower(largest, int(width), to + c * pitch + 1);
    any_unfit[slot] = is_unfit != 0;
    if (is_unfit) clear_unfit(to, unfit[slot]);
    for (int64_t c = 0; c < args.classes; ++c) repeat_ends(to + c * pitch);
  }

  template <typename Element>
  void repeat_ends(Element* row) const {
    row[0] = row[1];
    fill(row + 1 + width, pitch - 1 - width, row[width]);
  }

  void clear_unfit(float* rows, uint8_t* is_unfit) const {
    fill(is_unfit, pitch, uint8_t(0));
    for (int64_t c = 0; c < args.classes; ++c)
      for (int64_t x = 1; x <= width; ++x) is_unfit[x] |= !is_fit(rows[c * pitch + x]);
    for (int64_t c = 0; c < args.classes; ++c)
      for (int64_t x = 1; x <= width; ++x)
        rows[c * pitch + x] = is_unfit[x] ? 0.0f : rows[c * pitch + x];
    repeat_ends(is_unfit);
  }

  JML_MATH static bool is_fit(float difference) { return difference >= -1e30f; }

  static void raise(const float* __restrict row, int n, float* __restrict largest) {
    for (int i = 0; i < n; ++i) largest[i] = row[i] > largest[i] ? row[i] : largest[i];
  }

  // Returns whether a difference is none, or infinite.
  static int lower(const float* __restrict largest, int n, float* __restrict row) {
    int unfit = 0;
    for (int i = 0; i < n; ++i) {
      row[i] = (row[i] - largest[i]) * 1.44269504f;
      unfit |= !is_fit(row[i]);
    }
    return unfit;
  }
};

}  // namespace jml::JML_ISA
