// Labels of some full rows, by phase and lane: their codes, which of them are smoothed, and which
// classes there are in a group of lanes. A code below 0 is that of a pixel that does not count.
#pragma once

#include <vector>

#include "../labels.h"
#include "columns.h"

namespace jml::JML_ISA {

// Rows that are worked on at once: so many sums of a pixel's vector stay in registers.
constexpr int kMaxRows = JML_VECTOR_BYTES == 64 ? 8 : 4;

class CellLabels {
 public:
  const bool smooths_all, smooths_boundary;
  std::vector<int32_t> present;         // classes of the group that was looked at last
  std::unique_ptr<uint8_t[]> here;      // classes: 1 for these
  std::unique_ptr<uint8_t[]> smooths;   // phases x groups: whether a pixel of any row is smoothed
  bool any_smoothed = false;            // whether one of them is
  int64_t valid = 0;                    // pixels of the rows that count
  int64_t fault = Faults::kNone;        // the first label that is none, since `clear_fault`

  CellLabels(const Arguments& args, const PolyphaseColumns& columns)
      : smooths_all(args.label_smoothing != 0 && args.boundary_size == 0),
        smooths_boundary(args.label_smoothing != 0 && args.boundary_size > 0),
        here(new uint8_t[args.classes]()),
        smooths(new uint8_t[columns.phases * columns.groups]()),
        args(args),
        columns(columns) {
    held.assign(kept_rows(), -1);
    fill(smooths.get(), columns.phases * columns.groups, uint8_t(smooths_all));
    any_smoothed = smooths_all;
  }

  void allocate(Memory& memory) {
    const int64_t width = columns.width + args.boundary_size, row = columns.phases * columns.padded;
    memory.allocate(codes, kMaxRows * row);
    memory.allocate(smoothed, smooths_boundary ? kMaxRows * row : 0);
    memory.allocate_each<int32_t>({&code, &on_boundary, &lowest, &highest, &window}, width);
    memory.allocate(kept, kept_rows() * columns.width);
    memory.allocate(mask, args.mask.given ? width : 0);
  }

  // Rows [y, y + count) of an image.
  void load(int64_t image, int64_t y, int count) {
    valid = 0;
    if (smooths_boundary) {
      fill(smooths.get(), columns.phases * columns.groups, uint8_t(0));
      any_smoothed = false;
    }
    for (int row = 0; row < count; ++row) {
      const Pixels pixels{image, (y + row) * columns.width, int(columns.width)};
      const int32_t* of_row = codes_of_row(image, y + row);
      if (args.mask.given) of_row = exclude(pixels, of_row);
      look_for_faults(pixels, of_row);
      columns.spread(of_row, kIgnored, codes + row * columns.phases * columns.padded);
      if (smooths_boundary) load_boundary(pixels, row);
    }
  }

  IntLanes code_at(int row, int phase, int group) const {
    return loaded(codes + place(row, phase, group));
  }

  LaneMask smoothed_at(int row, int phase, int group) const {
    if (smooths_all) return inverted(kNoLanes);
    return inverted(equal(loaded(smoothed + place(row, phase, group)), 0));
  }

  // Finds the classes of a group of lanes. Mostly a vector has one label, and the next one too.
  void look_at_group(int rows, int group) {
    for (int32_t c : present) here[c] = 0;
    present.clear();
    int32_t last = kIgnored;
    for (int row = 0; row < rows; ++row)
      for (int phase = 0; phase < columns.phases; ++phase) {
        const int32_t* vector = codes + place(row, phase, group);
        if (!jml::JML_ISA::any(inverted(equal(loaded(vector), last)))) continue;
        for (int lane = 0; lane < kLanes; ++lane) {
          const int32_t c = vector[lane];
          if (c < 0 || here[c]) continue;
          here[last = c] = 1;
          present.push_back(c);
        }
        last = vector[kLanes - 1];
      }
  }

 private:
  const Arguments& args;
  const PolyphaseColumns& columns;
  int32_t *codes, *smoothed;  // kMaxRows x phases x padded
  int32_t *code, *on_boundary, *lowest, *highest, *window;
  int32_t* kept;              // kept_rows x width
  std::vector<int64_t> held;  // kept_rows: which row of all images
  float* mask;

  int64_t place(int row, int phase, int group) const {
    return (int64_t(row) * columns.phases + phase) * columns.padded + group * kLanes;
  }

  static IntLanes loaded(const int32_t* from) {
    IntLanes lanes;
    memcpy(&lanes, from, sizeof(lanes));
    return lanes;
  }

  // Codes of a full row. A window of the boundary asks for those of the rows around it, which are
  // kept, since encoding takes longer than all that is done with them.
  const int32_t* codes_of_row(int64_t image, int64_t y) {
    const int64_t slot = y % kept_rows(), width = columns.width;
    int32_t* to = kept + slot * width;
    const int64_t row = image * args.spatial[1] + y;
    if (held[slot] != row) load_codes(args, {image, y * width, int(width)}, to);
    held[slot] = row;
    return to;
  }

  int64_t kept_rows() const {
    return smooths_boundary ? std::min(args.boundary_size, args.spatial[1]) : 1;
  }

  // The same without masked pixels.
  const int32_t* exclude(const Pixels& pixels, const int32_t* from) {
    const auto* data = static_cast<const uint8_t*>(args.mask.data);
    fill_row(data + pixels.image * args.mask.image_stride,
             Segments(args.mask, args.spatial, pixels), mask);
    for (int i = 0; i < pixels.count; ++i) code[i] = mask[i] != 0 ? from[i] : kIgnored;
    return code;
  }

  void look_for_faults(const Pixels& pixels, const int32_t* code) {
    int counted = 0, faults = 0;
    for (int i = 0; i < pixels.count; ++i) {
      counted += code[i] >= 0;
      faults += code[i] == kOutOfRange;
    }
    valid += counted;
    for (int i = 0; faults && i < pixels.count; ++i)
      if (code[i] == kOutOfRange) {
        fault = std::min(fault, pixels.first + i);
        break;
      }
  }

  void load_boundary(const Pixels& pixels, int row) {
    find_boundary(args, pixels, window, lowest, highest, on_boundary,
                  [&](int64_t, int64_t y, int64_t left, int64_t) {
                    return codes_of_row(pixels.image, y) + left;
                  });
    columns.spread(on_boundary, 0, smoothed + row * columns.phases * columns.padded);
    for (int phase = 0; phase < columns.phases; ++phase)
      for (int group = 0; group < columns.groups; ++group)
        if (jml::JML_ISA::any(smoothed_at(row, phase, group)))
          any_smoothed = smooths[phase * columns.groups + group] = 1;
  }
};

}  // namespace jml::JML_ISA
