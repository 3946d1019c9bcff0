// What the forward and the backward of upsampled logits share: the rows of a chunk's cells, at most
// kMaxRows at once.
#pragma once

#include "powers.h"

namespace jml::JML_ISA {

class UpsampleRows {
 protected:
  const Arguments& args;
  const int64_t classes;
  const Cells& cells;  // of the rows
  const LabelTarget<float> target;
  PolyphaseColumns columns;
  LowLogits low;
  CellLabels labels;
  Powers powers;
  bool fit = true;  // whether all logits that pixels of the chunk are made of are fit

  explicit UpsampleRows(const Arguments& args)
      : args(args),
        classes(args.classes),
        cells(*args.cells),
        target(label_target(float(args.label_smoothing), float(args.classes))),
        columns(args.logits_spatial[2], args.spatial[2], args.align_corners),
        low(args, columns),
        labels(args, columns),
        powers(args, low, columns, labels) {}

  void allocate(Memory& memory) {
    low.allocate(memory);
    labels.allocate(memory);
    powers.allocate(memory);
  }

  // allocate(memory) hands out all arrays.
  template <typename Allocate>
  void reserve(Allocate allocate) {
    allocate(memory);
    memory.reserve();
    allocate(memory);
  }

  // Calls body(cell, the number of rows as a constant) with these rows in `powers` and `labels`.
  template <typename Body>
  void for_cell_rows(int64_t chunk, Body body) {
    const int64_t image = chunk / args.chunks_per_image;
    const int64_t first = chunk % args.chunks_per_image * args.rows.low_per_chunk;
    const int64_t end = std::min(first + args.rows.low_per_chunk, cells.count());
    low.forget();
    fit = true;
    for (int64_t cell = first; cell < end; ++cell) {
      int64_t y = cells.begin[cell], left = cells.pixels(cell);
      if (left == 0) continue;
      CellRows& rows = powers.rows;
      rows.top = low.row(image, cells.lower(cell));
      rows.bottom = low.row(image, cells.upper(cell));
      rows.step = float(cells.step);
      for (int64_t parts = (left + kMaxRows - 1) / kMaxRows; parts > 0; --parts) {
        rows.y = y;
        rows.count = int((left + parts - 1) / parts);
        for (int j = 0; j < kMaxRows; ++j)
          rows.weight[j] = j < rows.count ? float(cells.weight(cell, y + j)) : 0.0f;
        labels.load(image, y, rows.count);
        for (int64_t corner : {cells.lower(cell), cells.upper(cell)})
          if (const uint8_t* unfit = low.unfit_in_row(corner)) look_for_unfit(unfit);
        with_count(rows.count, [&](auto count) { body(cell, count); });
        y += rows.count;
        left -= rows.count;
      }
    }
  }

 private:
  Memory memory;

  // Of pixels that count.
  void look_for_unfit(const uint8_t* unfit) {
    for (int j = 0; j < powers.rows.count; ++j)
      for (int phase = 0; phase < columns.phases; ++phase)
        for (int group = 0; group < columns.groups; ++group) {
          const IntLanes code = labels.code_at(j, phase, group);
          const uint8_t* at = unfit + group * kLanes + columns.offset[phase] + 1;
          for (int lane = 0; lane < kLanes; ++lane)
            if (code[lane] >= 0 && (at[lane] | at[lane + 1])) fit = false;
        }
  }

  template <typename Body>
  static void with_count(int count, Body body) {
    switch (count) {
      case 1: return body(std::integral_constant<int, 1>());
      case 2: return body(std::integral_constant<int, 2>());
      case 3: return body(std::integral_constant<int, 3>());
      case 4: return body(std::integral_constant<int, 4>());
    }
    if constexpr (kMaxRows > 4) switch (count) {
      case 5: return body(std::integral_constant<int, 5>());
      case 6: return body(std::integral_constant<int, 6>());
      case 7: return body(std::integral_constant<int, 7>());
      default: return body(std::integral_constant<int, 8>());
    }
  }
};

}  // namespace jml::JML_ISA
