// Counting for metrics, over maps of small integers: labels become marks before the pass over the
// logits, and the marks of predictions are searched for boundaries after it.
//
// A pixel is at a boundary if its window holds another class, and no pixel that is ignored. As in
// labels.cuh the window is taken apart: a block finds the range of classes in each column of its
// piece of a row and beside it, over the rows and the depth of a window, and then each thread looks
// at the columns of its pixel's window.
#pragma once

#include "labels.cuh"
#include "tally_counters.cuh"

namespace jml::cuda {

// A piece of a row, with a pixel for each thread.
struct Piece {
  int64_t image, depth, row, begin;  // the column of its first pixel

  JML_DEVICE static Piece find(const MapArguments& args, int64_t number) {
    Piece piece;
    int64_t line, plane, of_row;
    divide(number, args.pieces_of_row, args.reciprocal_pieces, line, of_row);
    divide(line, args.spatial[1], args.reciprocal_height, plane, piece.row);
    divide(plane, args.spatial[0], args.reciprocal_depth, piece.image, piece.depth);
    piece.begin = of_row * int(blockDim.x);
    return piece;
  }
  JML_DEVICE int64_t column() const { return begin + int(threadIdx.x); }
  JML_DEVICE bool has_pixel(const MapArguments& args) const { return column() < args.spatial[2]; }
  // Of the thread's pixel, among all marks.
  JML_DEVICE int64_t place(const MapArguments& args) const {
    return mark_of(args, depth, row) + column();
  }
  // Where the marks of a row of this image begin.
  JML_DEVICE int64_t mark_of(const MapArguments& args, int64_t of_depth, int64_t of_row) const {
    return ((image * args.spatial[0] + of_depth) * args.spatial[1] + of_row) * args.spatial[2];
  }
};

template <typename Body>
JML_DEVICE void each_piece(const MapArguments& args, Body body) {
#pragma unroll 1
  for (int64_t number = blockIdx.x; number < args.pieces; number += gridDim.x)
    body(Piece::find(args, number));
}

// The range of classes in the window of the thread's pixel; all threads of a block call it.
// row_of(depth, row) gives what column(row, column) takes to tell the class of a pixel: -1 where it
// is ignored.
template <typename RowOf, typename ClassAt>
JML_DEVICE CodeRange range_of_window(const MapArguments& args, const Piece& piece, RowOf row_of,
                                     ClassAt class_at) {
  auto* const columns = reinterpret_cast<CodeRange*>(shared_memory());
  const auto least = [](int64_t a, int64_t b) { return a < b ? a : b; };
  const auto most = [](int64_t a, int64_t b) { return a > b ? a : b; };
  const int64_t radius = args.radius, width = args.spatial[2], column = piece.column();
  const int64_t first_row = most(piece.row - radius, 0);
  const int64_t first_plane = most(piece.depth - radius, 0);
  const int64_t last_row = least(piece.row + radius, args.spatial[1] - 1);
  const int64_t last_plane = least(piece.depth + radius, args.spatial[0] - 1);
  const int64_t end = least(piece.begin + int(blockDim.x) + radius, width);
  CodeRange window;
#pragma unroll 1
  for (int64_t start = most(piece.begin - radius, 0); start < end; start += args.columns) {
    const int64_t stop = least(start + args.columns, end);
    __syncthreads();  // whoever still reads the columns before
#pragma unroll 1
    for (int64_t i = start + int(threadIdx.x); i < stop; i += int(blockDim.x)) {
      CodeRange range;
#pragma unroll 1
      for (int64_t plane = first_plane; plane <= last_plane; ++plane)
#pragma unroll 1
        for (int64_t row = first_row; row <= last_row; ++row)
          range.widen(class_at(row_of(plane, row), i));
      columns[i - start] = range;
    }
    __syncthreads();
    const int64_t last = least(column + radius, stop - 1);
#pragma unroll 1
    for (int64_t i = most(column - radius, start); column < width && i <= last; ++i)
      window.widen(columns[i - start]);
  }
  return window;
}

// ---- labels to marks ------------------------------------------------------------------------
JML_DEVICE void clear_outputs(const MapArguments& args) {
  Count* const outputs[5] = {args.outputs.of_images, args.outputs.confusion,
                             args.outputs.calibration, args.outputs.classwise, args.outputs.wrong};
#pragma unroll
  for (int i = 0; i < 5; ++i)
    for (int64_t j = int64_t{blockIdx.x} * int(blockDim.x) + int(threadIdx.x);
         j < args.output_sizes[i]; j += int64_t{gridDim.x} * int(blockDim.x))
      outputs[i][j] = 0;
}

template <typename L>
JML_DEVICE void write_marks(const MapArguments& args, const L* labels) {
  const auto& stride = args.labels.spatial_stride;
  const auto code_of = [&](const L* of_row, int64_t column) {
    const int64_t label = label_number(of_row[column * stride[2]]);
    return jml::label_code(label, args.ignore_index, args.classes);
  };
  each_piece(args, [&](const Piece& piece) {
    const auto row_of = [&](int64_t depth, int64_t row) {
      return labels + piece.image * args.labels.image_stride + depth * stride[0] + row * stride[1];
    };
    // A label out of range is none that is ignored.
    const auto class_at = [&](const L* of_row, int64_t column) {
      const int code = code_of(of_row, column);
      return code == kOutOfRange ? int(args.classes) : code;
    };
    uint32_t flags = 0;
    if (args.radius && range_of_window(args, piece, row_of, class_at).is_of_boundary())
      flags = Marks::kAtBoundary;
    if (!piece.has_pixel(args)) return;
    const int code = class_at(row_of(piece.depth, piece.row), piece.column());
    bool counts = code != kIgnored;
    if (args.mask.given) {
      const auto& of_mask = args.mask.spatial_stride;
      const int64_t offset = piece.image * args.mask.image_stride + piece.depth * of_mask[0] +
                             piece.row * of_mask[1] + piece.column() * of_mask[2];
      counts &= static_cast<const uint8_t*>(args.mask.data)[offset] != 0;
    }
    const int shown = code == kIgnored ? int(args.classes) + 1 : code;
    args.marks.store(piece.place(args),
                     uint32_t(shown) << Marks::kFlags | (counts ? Marks::kCounts : 0u) | flags);
  });
}

// Also makes the outputs 0, to which the next kernels add.
__global__ void mark_pixels(const __grid_constant__ MapArguments args) {
  clear_outputs(args);
  visit_integer(args.labels, [&](const auto* labels) { write_marks(args, labels); });
}

// ---- boundaries of predictions --------------------------------------------------------------
__global__ void count_boundaries(const __grid_constant__ MapArguments args) {
  const int lane = int(threadIdx.x) % kLanes;
  each_piece(args, [&](const Piece& piece) {
    const auto row_of = [&](int64_t depth, int64_t row) { return piece.mark_of(args, depth, row); };
    const auto class_at = [&](int64_t of_row, int64_t column) {
      const int shown = int(args.marks.load(of_row + column) >> Marks::kFlags);
      return shown > int(args.classes) ? kIgnored : shown;
    };
    const bool is_boundary =
        range_of_window(args, piece, row_of, class_at).is_of_boundary() && piece.has_pixel(args);
    const uint32_t mark = is_boundary ? args.marks.load(piece.place(args)) : 0u;
    const bool is_predicted = mark & Marks::kCounts;
    const unsigned who = __ballot_sync(kAllLanes, is_predicted);
    if (!is_predicted) return;
    const int c = int(mark >> Marks::kFlags);
    const Group group = Group::of(who, c);
    const unsigned hits = group.count(mark & Marks::kAtBoundary);
    if (!group.is_led_by(lane)) return;
    atomicAdd(args.outputs.of_image(piece.image, kBoundaryPredicted, args.classes) + c,
              Count{group.size()});
    if (hits)
      atomicAdd(args.outputs.of_image(piece.image, kBoundaryHits, args.classes) + c, Count{hits});
  });
}

}  // namespace jml::cuda
