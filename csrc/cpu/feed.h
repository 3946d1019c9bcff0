// The next tile, copied while this one is computed.
//
// Rows of a tile lie far apart, and are too short for the hardware to see the next one coming: a
// tile that is loaded when it is needed waits for memory. Asking for all of it early does not help
// either, since rows a power of two apart share a few cache sets and push each other out. So the
// next tile is copied to a place of its own, a piece at a time between the exponentials, and each
// piece is asked for a few rows before its turn.
#pragma once

#include <utility>

#include "tile_io.h"

namespace jml::JML_ISA {

constexpr int kPieceBytes = 2 * kVectorBytes;  // as much as an iteration of softmax_tile computes
constexpr int kFeedRowsAhead = 4;

// Rows of bytes, copied piece by piece.
class Feed {
 public:
  Feed() = default;
  Feed(const char* from, int64_t from_stride, char* to, int64_t to_stride, int64_t rows,
       int64_t row_bytes)
      : from(from),
        to(to),
        from_jump(from_stride - row_bytes),
        to_jump(to_stride - row_bytes),
        rows(rows),
        rows_ahead(rows < kFeedRowsAhead ? rows : kFeedRowsAhead),
        row_pieces(int(row_bytes / kPieceBytes)),
        left(row_pieces),
        ahead(rows_ahead * from_stride),
        // From the last rows on it is the first ones of the tile after that are asked for.
        ahead_at_end((rows_ahead - rows) * from_stride + row_bytes) {
    if (rows == rows_ahead) ahead = ahead_at_end;
  }

  JML_MATH void step() {
    if (rows == 0) return;
    memcpy(to, from, kPieceBytes);
    for (int i = 0; i < kPieceBytes; i += 64) __builtin_prefetch(from + ahead + i, 0, 2);
    from += kPieceBytes;
    to += kPieceBytes;
    if (--left > 0) return;
    left = row_pieces;
    from += from_jump;
    to += to_jump;
    if (--rows == rows_ahead) ahead = ahead_at_end;
  }

  void finish() {
    while (rows > 0) step();
  }

 private:
  const char* from = nullptr;
  char* to = nullptr;
  int64_t from_jump = 0, to_jump = 0;
  int64_t rows = 0, rows_ahead = 0;
  int row_pieces = 0, left = 0;
  int64_t ahead = 0, ahead_at_end = 0;
};

// The tiles of a tensor, one after the other.
template <typename T>
class TileReader {
 public:
  T* tile = nullptr;   // classes x stride
  T* ahead = nullptr;  // room for as much

  TileReader(const TensorView& view, const Arguments& args, int64_t stride, Run*& room)
      : view(view), args(args), stride(stride), room(room) {}

  // Makes `tile` hold these pixels, rows padded with 0 to `padded`.
  void load(const Pixels& pixels, int padded) {
    const int64_t classes = args.classes;
    if (!(pixels == fed)) {
      load_tile(view, pixels.image, runs(pixels), classes, tile, stride);
    } else if (turned) {
      load_tile(packed(1), 0, Runs(classes, pixels.count, room), classes, tile, stride);
    } else if (same_type()) {
      std::swap(tile, ahead);
    } else {
      load_tile(packed(stride), 0, Runs(1, pixels.count, room), classes, tile, stride);
    }
    fed = Pixels();
    for (int64_t c = 0; pixels.count < padded && c < classes; ++c)
      fill(tile + c * stride + pixels.count, padded - pixels.count, T(0));
  }

  // The copying of the pixels that are to be loaded next; nothing where they do not lie in rows.
  Feed feed(const Pixels& next) {
    const int64_t bytes = view.element_bytes(), classes = args.classes;
    if (next.image < 0 || bytes > int64_t(sizeof(T))) return Feed();
    const Runs where = runs(next);
    turned = classes_side_by_side(view, where, classes);
    const int64_t row_bytes = next.count * bytes * (turned ? classes : 1);
    if (!where.single() || where.step != (turned ? classes : 1) || row_bytes % kPieceBytes)
      return Feed();
    fed = next;
    const auto* from = static_cast<const char*>(view.data) +
                       (next.image * view.image_stride + where.run[0].offset) * bytes;
    auto* to = reinterpret_cast<char*>(ahead);
    if (turned) return Feed(from, row_bytes, to, row_bytes, 1, row_bytes);
    return Feed(from, view.class_stride * bytes, to, stride * bytes, classes, row_bytes);
  }

 private:
  const TensorView& view;
  const Arguments& args;
  const int64_t stride;
  Run*& room;
  Pixels fed;           // what `ahead` holds
  bool turned = false;  // with its classes side by side

  Runs runs(const Pixels& pixels) const { return Runs(view, args.spatial, pixels, room); }

  bool same_type() const {
    return view.dtype == (sizeof(T) == sizeof(double) ? DType::f64 : DType::f32);
  }

  // What `ahead` holds, as a tensor.
  TensorView packed(int64_t class_stride) const {
    TensorView rows;
    rows.data = ahead;
    rows.dtype = view.dtype;
    rows.class_stride = class_stride;
    return rows;
  }
};

}  // namespace jml::JML_ISA
