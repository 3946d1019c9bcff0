// The tile source of logits of lower resolution: what a tile holds is interpolated as it is filled
// (../upsampling.h), and the full size exists nowhere else.
//
//     low rows of all classes, in the type of the kernels     LowRows
//     -> blended across rows and planes: 1, 2 or 4 of them    once for each full row and class
//     -> spread along the row                                 RowSpread
//
// Blending comes first because it is done on the low columns, and runs along contiguous numbers.
#pragma once

#include "layout.h"
#include "upsampling.h"

namespace jml::JML_ISA {

// The low rows between which a full row lies, with their weights. Dimensions that the tensors do
// not have blend nothing.
template <typename T>
struct Corners {
  int count = 0;
  int64_t plane[4], row[4];
  T weight[4];

  Corners(const Upsampling& upsampling, int64_t z, int64_t y) {
    const UpsampledAxis &planes = upsampling.axis[0], &rows = upsampling.axis[1];
    for (int i = 0; i < (planes.given ? 2 : 1); ++i)
      for (int j = 0; j < (rows.given ? 2 : 1); ++j) {
        plane[count] = place(planes, z, i);
        row[count] = place(rows, y, j);
        weight[count++] = share(planes, z, i) * share(rows, y, j);
      }
  }

 private:
  static int64_t place(const UpsampledAxis& axis, int64_t i, int side) {
    if (!axis.given) return 0;
    return side == 0 ? axis.lower[i] : axis.upper(axis.lower[i]);
  }
  static T share(const UpsampledAxis& axis, int64_t i, int side) {
    if (!axis.given) return T(1);
    return side == 1 ? T(axis.weight[i]) : T(1) - T(axis.weight[i]);
  }
};

// Consecutive pixels of one row of the full size.
struct RowSegment {
  int64_t z, y, x;
  int start;  // index of the first in the tile
  int count;
};

// Calls visit(segment) for the rows of a tile.
template <typename Visit>
JML_MATH void for_row_segments(const int64_t spatial[3], const Pixels& pixels, Visit visit) {
  const int64_t width = spatial[2];
  for (int start = 0; start < pixels.count;) {
    const int64_t pixel = pixels.first + start, row = pixel / width, x = pixel % width;
    const int count = int(std::min<int64_t>(pixels.count - start, width - x));
    visit(RowSegment{row / spatial[1], row % spatial[1], x, start, count});
    start += count;
  }
}

// ---- along a row -----------------------------------------------------------------------------

// Room behind a row of low columns: its last number once more, and what vectors read beyond.
template <typename T>
constexpr int kRowMargin = 1 + 2 * kWidth<T>;

// from[lane[i]] for lanes from 0 to 2 kWidth - 1.
template <typename T>
JML_MATH Vector<T> pick(const T* from, const int32_t* lane) {
#if JML_VECTOR_BYTES >= 32
  if constexpr (std::is_same_v<T, float>) {
#if JML_VECTOR_BYTES == 64
    return (Vector<T>)_mm512_permutex2var_ps(_mm512_loadu_ps(from), _mm512_loadu_si512(lane),
                                             _mm512_loadu_ps(from + kWidth<T>));
#else
    const __m256i lanes = _mm256_loadu_si256((const __m256i*)lane);
    const __m256 first = _mm256_permutevar8x32_ps(_mm256_loadu_ps(from), lanes);
    const __m256 second = _mm256_permutevar8x32_ps(_mm256_loadu_ps(from + kWidth<T>), lanes);
    const __m256i is_second = _mm256_cmpgt_epi32(lanes, _mm256_set1_epi32(kWidth<T> - 1));
    return (Vector<T>)_mm256_blendv_ps(first, second, _mm256_castsi256_ps(is_second));
#endif
  }
#endif
  Vector<T> picked;
  for (int i = 0; i < kWidth<T>; ++i) picked[i] = from[lane[i]];
  return picked;
}

// Low columns to full ones. Since no ratio is below 1, the columns of a vector have neighbours that
// lie within two vectors.
template <typename T>
class RowSpread {
 public:
  explicit RowSpread(const UpsampledAxis& axis)
      : is_identity(axis.low == axis.full),
        vectors((axis.full + kWidth<T> - 1) / kWidth<T>),
        first(new int32_t[vectors]),
        lane(new int32_t[vectors * kWidth<T>]()),
        weight(new T[vectors * kWidth<T>]()) {
    for (int64_t i = 0; i < axis.full; ++i) {
      const int64_t vector = i / kWidth<T>;
      if (i % kWidth<T> == 0) first[vector] = axis.lower[i];
      lane[i] = axis.lower[i] - first[vector];
      weight[i] = T(axis.weight[i]);
    }
  }

  // The low columns that full columns [x, x + count) lie between, x a multiple of kWidth.
  std::pair<int64_t, int64_t> low_columns(int64_t x, int count) const {
    const int64_t last = x + count - 1;
    return {first[x / kWidth<T>], first[last / kWidth<T>] + lane[last] + 2};
  }

  // Writes whole vectors.
  void spread(const T* low, int64_t x, int count, T* to) const {
    for (int i = 0; i < count; i += kWidth<T>) {
      const int64_t at = x + i;
      const T* from = low + first[at / kWidth<T>];
      const Vector<T> share = load(weight.get(), int(at));
      const Vector<T> lower = pick(from, lane.get() + at);
      const Vector<T> upper = is_identity ? lower : pick(from + 1, lane.get() + at);
      store(to, i, (T(1) - share) * lower + share * upper);
    }
  }

 private:
  const bool is_identity;
  const int64_t vectors;
  std::unique_ptr<int32_t[]> first;  // vectors: the lower neighbour of its first column
  std::unique_ptr<int32_t[]> lane;   // full: how far that of a column lies behind it
  std::unique_ptr<T[]> weight;       // full: of the upper neighbour
};

// ---- low rows --------------------------------------------------------------------------------

// The last few low rows of all classes, as the kernels compute with them.
template <typename T>
class LowRows {
 public:
  const int64_t pitch;

  LowRows(const TensorView& view, const Upsampling& upsampling, int64_t classes)
      : pitch((upsampling.low(2) + kRowMargin<T> + kWidth<T> - 1) / kWidth<T> * kWidth<T>),
        view(view),
        upsampling(upsampling),
        classes(classes),
        rows(new T[kSlots * classes * pitch]()) {}

  // classes x pitch; behind each row its last number once more.
  const T* row(int64_t image, int64_t z, int64_t y) {
    const int64_t low[3] = {upsampling.low(0), upsampling.low(1), upsampling.low(2)};
    const Pixels pixels{image, (z * low[1] + y) * low[2], int(low[2])};
    const int slot = int(z % 2 * 2 + y % 2);  // rows that blend into one are in different slots
    T* to = rows.get() + slot * classes * pitch;
    if (held[slot] == pixels) return to;
    held[slot] = pixels;
    fill_low_row(pixels, low, to);
    for (int64_t c = 0; c < classes; ++c) to[c * pitch + low[2]] = to[c * pitch + low[2] - 1];
    return to;
  }

 private:
  static constexpr int kSlots = 4;
  const TensorView& view;
  const Upsampling& upsampling;
  const int64_t classes;
  std::unique_ptr<T[]> rows;
  Pixels held[kSlots];

  // In pieces, since segments are of a tile's length at most.
  void fill_low_row(const Pixels& pixels, const int64_t low[3], T* to) {
    for (int start = 0; start < pixels.count; start += kMaxTilePixels) {
      const Pixels piece{pixels.image, pixels.first + start,
                         std::min(kMaxTilePixels, pixels.count - start)};
      fill_tile(view, piece.image, Segments(view, low, piece), classes, to + start, pitch);
    }
  }
};

// ---- the source ------------------------------------------------------------------------------

template <typename T>
class Interpolation {
 public:
  Interpolation(const TensorView& view, const Upsampling& upsampling, const Arguments& args)
      : upsampling(upsampling),
        args(args),
        low_rows(view, upsampling, args.classes),
        spread(upsampling.axis[2]),
        blended(new T[low_rows.pitch]()) {}

  // Makes the rows of a tile hold these pixels; what whole vectors write beyond them is no number
  // of use.
  void fill(const Pixels& pixels, T* tile, int64_t stride) {
    for_row_segments(args.spatial, pixels, [&](const RowSegment& segment) {
      const Corners<T> corners(upsampling, segment.z, segment.y);
      const T* rows[4];
      for (int k = 0; k < corners.count; ++k)
        rows[k] = low_rows.row(pixels.image, corners.plane[k], corners.row[k]);
      const auto [begin, end] = spread.low_columns(segment.x, segment.count);
      for (int64_t c = 0; c < args.classes; ++c)
        spread.spread(blend(corners, rows, c * low_rows.pitch, begin, end), segment.x,
                      segment.count, tile + c * stride + segment.start);
    });
  }

 private:
  const Upsampling& upsampling;
  const Arguments& args;
  LowRows<T> low_rows;
  RowSpread<T> spread;
  std::unique_ptr<T[]> blended;

  const T* blend(const Corners<T>& corners, const T* const rows[4], int64_t offset, int64_t begin,
                 int64_t end) {
    if (corners.count == 1) return rows[0] + offset;
    T* __restrict to = blended.get();
    const T *a = rows[0] + offset, *b = rows[1] + offset;
    const T* w = corners.weight;
    for (int64_t x = begin; x < end; ++x) to[x] = w[0] * a[x] + w[1] * b[x];
    if (corners.count == 2) return to;
    a = rows[2] + offset, b = rows[3] + offset;
    for (int64_t x = begin; x < end; ++x) to[x] += w[2] * a[x] + w[3] * b[x];
    return to;
  }
};

}  // namespace jml::JML_ISA
