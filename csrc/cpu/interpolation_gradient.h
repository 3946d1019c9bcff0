// The gradient of logits of lower resolution: the transposed of interpolation.h. What a tile holds
// is gathered along each row to the low columns, and added to the low rows that the row lies
// between.
//
// The sums of a chunk are its own. The full rows of a chunk lie between the low rows
// [k R, (k + 1) R], with R the low rows of a chunk: all of these but the first and the last get
// nothing from elsewhere, and are written to the gradient once they are complete. The first and the
// last are kept apart, and added to those of the neighbours when all chunks are done
// (shared_rows.h): the order of every sum is the same for any number of threads.
#pragma once

#include "interpolation.h"
#include "phases.h"
#include "shared_rows.h"

namespace jml::JML_ISA {

// Full columns to low ones: the transposed of RowSpread. Where all cells between two low columns have
// 2, 4 or 8 pixels at the same places, but the outer ones, vectors take a cell in each lane.
template <typename T>
class RowGather {
 public:
  explicit RowGather(const UpsampledAxis& axis)
      : lower(axis.lower.data()),
        low(axis.low),
        first(new int64_t[axis.low + 1]),
        upper_weight(new T[axis.full]) {
    for (int64_t i = 0; i <= low; ++i) first[i] = axis.pixels_before(i);
    for (int64_t i = 0; i < axis.full; ++i) upper_weight[i] = T(axis.weight[i]);
    ratio = pixels_of_each_cell();
  }

  // The low columns that full columns [x, x + count) lie between.
  std::pair<int64_t, int64_t> low_columns(int64_t x, int count) const {
    return {lower[x], lower[x + count - 1] + 2};
  }

  // low_row[begin .. end), of low_columns, becomes what columns [x, x + count) give.
  void gather(const T* __restrict from, int64_t x, int count, T* __restrict low_row) const {
    const auto [begin, end] = low_columns(x, count);
    int64_t cell = begin;
    T above = 0;  // what the cell before gives to this low column
    const auto take_until = [&](int64_t stop) {
      for (; cell < stop; ++cell) {
        const int64_t last = std::min<int64_t>(first[cell + 1], x + count);
        T sum_lower = above, sum_upper = 0;
        for (int64_t i = std::max(first[cell], x); i < last; ++i) {
          const T share = upper_weight[i] * from[i - x];
          sum_upper += share;
          sum_lower += from[i - x] - share;
        }
        low_row[cell] = sum_lower;
        above = sum_upper;
      }
    };
    if (ratio > 0) {
      const int64_t inner = std::min(std::max<int64_t>(first[begin] < x ? begin + 1 : begin, 1), end - 1);
      const int64_t inner_end = std::min(first[end - 1] > x + count ? end - 2 : end - 1, low - 1);
      take_until(inner);
      const T* at = from + (first[inner] - x);
      if (ratio == 2) above = take_vectors<2>(at, inner_end, cell, above, low_row);
      if (ratio == 4) above = take_vectors<4>(at, inner_end, cell, above, low_row);
      if (ratio == 8) above = take_vectors<8>(at, inner_end, cell, above, low_row);
    }
    take_until(end - 1);
    low_row[end - 1] = above;
  }

 private:
  const int32_t* lower;               // full
  const int64_t low;
  std::unique_ptr<int64_t[]> first;   // low + 1: the first column whose lower neighbour it is
  std::unique_ptr<T[]> upper_weight;  // full
  int ratio = 0;                      // of inner cells, 0 if vectors cannot take them

  int pixels_of_each_cell() const {
    if (low < 3) return 0;
    const int64_t pixels = first[2] - first[1];
    if (pixels != 2 && pixels != 4 && pixels != 8) return 0;
    for (int64_t cell = 2; cell < low - 1; ++cell) {
      if (first[cell + 1] - first[cell] != pixels) return 0;
      for (int64_t i = 0; i < pixels; ++i)
        if (upper_weight[first[cell] + i] != upper_weight[first[1] + i]) return 0;
    }
    return int(pixels);
  }

  // Takes vectors of cells, as long as they are before `end`. Returns what is left for the next one.
  template <int kRatio>
  T take_vectors(const T* from, int64_t end, int64_t& cell, T above, T* __restrict low_row) const {
    using V = Vector<T>;
    V weight[kRatio], before = V{} + above;
    for (int i = 0; i < kRatio; ++i) weight[i] = V{} + upper_weight[first[1] + i];
    for (; cell + kWidth<T> <= end; cell += kWidth<T>, from += kRatio * kWidth<T>) {
      V phase[kRatio], sum_lower = {}, sum_upper = {};
      for (int i = 0; i < kRatio; ++i) phase[i] = load(from, i * kWidth<T>);
      split_phases<kRatio, T>(phase);
      for (int i = 0; i < kRatio; ++i) {
        const V share = weight[i] * phase[i];
        sum_upper += share;
        sum_lower += phase[i] - share;
      }
      store(low_row + cell, 0, sum_lower + moved_on<T>(before, sum_upper));
      before = sum_upper;
    }
    return before[kWidth<T> - 1];
  }
};

// Brings complete low rows to the gradient, and those that another chunk has a part of to where they
// are added up.
template <typename T>
class LowRowWriter {
 public:
  explicit LowRowWriter(const Arguments& args) : args(args), shared(args) {}

  // Low row y of plane z, classes x pitch, from a chunk.
  void write(int64_t chunk, int64_t z, int64_t y, const T* rows, int64_t pitch) const {
    const int64_t* low = args.logits_spatial;
    const int64_t image = chunk / args.chunks_per_image;
    if (T* apart = shared.place(chunk, z, y)) {
      for (int64_t c = 0; c < args.classes; ++c)
        copy(rows + c * pitch, low[2], apart + c * low[2]);
      return;
    }
    for (int64_t start = 0; start < low[2]; start += kMaxTilePixels) {
      const Pixels piece{image, (z * low[1] + y) * low[2] + start,
                         int(std::min<int64_t>(kMaxTilePixels, low[2] - start))};
      store_tile(args.grad, image, Segments(args.grad, low, piece), args.classes, rows + start,
                 pitch);
    }
  }

 private:
  const Arguments& args;
  SharedRows<T> shared;
};

template <typename T>
class InterpolationGradient {
 public:
  InterpolationGradient(const Upsampling& upsampling, const Arguments& args)
      : upsampling(upsampling),
        args(args),
        writer(args),
        columns(upsampling.axis[2]),
        is_volume(upsampling.axis[0].full > 1),
        row_slots(is_volume ? args.rows.low_per_chunk + 1 : 2),
        pitch(upsampling.low(2) + 1),
        sums(new T[(is_volume ? 2 : 1) * row_slots * args.classes * pitch]()),
        gathered(new T[pitch]()) {}

  void enter(int64_t chunk) {
    this->chunk = chunk;
    first_row = chunk % args.chunks_per_image * args.rows.low_per_chunk;
    last_row = std::min(first_row + args.rows.low_per_chunk, upsampling.low(1) - 1);
    complete = is_volume ? 0 : first_row;
  }

  // Adds a tile's rows, `stride` apart.
  void add(const Pixels& pixels, const T* tile, int64_t stride) {
    for_row_segments(args.spatial, pixels, [&](const RowSegment& segment) {
      const Corners<T> corners(upsampling, segment.z, segment.y);
      write_before(is_volume ? corners.plane[0] : corners.row[0]);
      const auto [begin, end] = columns.low_columns(segment.x, segment.count);
      for (int64_t c = 0; c < args.classes; ++c) {
        columns.gather(tile + c * stride + segment.start, segment.x, segment.count,
                       gathered.get());
        for (int k = 0; k < corners.count; ++k)
          add_row(gathered.get(), corners.weight[k], begin, end,
                  slot(corners.plane[k], corners.row[k]) + c * pitch);
      }
    });
  }

  void leave() { write_before(is_volume ? upsampling.low(0) : last_row + 1); }

 private:
  const Upsampling& upsampling;
  const Arguments& args;
  LowRowWriter<T> writer;
  RowGather<T> columns;
  const bool is_volume;
  const int64_t row_slots, pitch;
  // Of the low rows that are not complete: two neighbouring ones of a plane, or all of a chunk in
  // two neighbouring planes. Each is classes x pitch.
  std::unique_ptr<T[]> sums;
  std::unique_ptr<T[]> gathered;
  int64_t chunk = 0, first_row = 0, last_row = 0;
  int64_t complete = 0;  // rows, of volumes planes, before it are written

  T* slot(int64_t z, int64_t y) const {
    const int64_t plane = is_volume ? z % 2 : 0;
    return sums.get() + (plane * row_slots + (y - first_row) % row_slots) * args.classes * pitch;
  }

  static void add_row(const T* __restrict from, T weight, int64_t begin, int64_t end,
                      T* __restrict to) {
    for (int64_t x = begin; x < end; ++x) to[x] += weight * from[x];
  }

  // Writes the rows, of volumes the planes, before one: nothing more comes to them.
  void write_before(int64_t end) {
    for (; complete < end; ++complete)
      if (is_volume)
        for (int64_t y = first_row; y <= last_row; ++y) write(complete, y);
      else
        write(0, complete);
  }

  void write(int64_t z, int64_t y) {
    T* const rows = slot(z, y);
    const int64_t width = upsampling.low(2);
    for (int64_t c = 0; c < args.classes; ++c)  // behind the last column it is the last itself
      rows[c * pitch + width - 1] += rows[c * pitch + width];
    writer.write(chunk, z, y, rows, pitch);
    fill(rows, args.classes * pitch, T(0));
  }
};

}  // namespace jml::JML_ISA
