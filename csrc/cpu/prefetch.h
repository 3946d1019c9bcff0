// A prefetch: the next tile is copied while this one is computed.
//
// Rows of a tile lie far apart, and are too short for the hardware to see the next one coming: a
// tile that is loaded when it is needed waits for memory. Asking for all of it early does not help
// either, since rows a power of two apart share a few cache sets and push each other out. So the
// next tile is copied to a place of its own, a piece at a time between the exponentials, and each
// piece is asked for a few rows before it is copied.
#pragma once

#include "largest_bits.h"

namespace jml::JML_ISA {

constexpr int kPieceBytes = 2 * kVectorBytes;  // as much as an iteration of softmax_tile computes
// Rows that are asked for ahead: enough for the memory's latency, few enough that rows a power of
// two apart, which share cache sets, are still there when they are used.
constexpr int kRowsAhead = 4;

// Copies rows of bytes piece by piece. One without rows does nothing.
class Prefetch {
 public:
  Prefetch() = default;
  Prefetch(const char* from, int64_t from_stride, char* to, int64_t to_stride, int64_t rows,
           int64_t row_bytes)
      : from(from),
        to(to),
        from_jump(from_stride - row_bytes),
        to_jump(to_stride - row_bytes),
        rows(rows),
        rows_ahead(rows < kRowsAhead ? rows : kRowsAhead),
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
    advance();
  }

  // The same with a look at the piece, which holds floats, as it passes by.
  JML_MATH void step(LargestBits<float>& largest) {
    if (rows == 0) return;
    const auto first = load(reinterpret_cast<const uint32_t*>(from), 0);
    const auto second = load(reinterpret_cast<const uint32_t*>(from), kWidth<uint32_t>);
    store(reinterpret_cast<uint32_t*>(to), 0, first);
    store(reinterpret_cast<uint32_t*>(to), kWidth<uint32_t>, second);
    largest.add(first, second);
    advance();
  }

  void finish(LargestBits<float>& largest) {
    Prefetch rest = *this;  // in registers
    while (rest.rows > 0) rest.step(largest);
    *this = rest;
  }

 private:
  const char* from = nullptr;
  char* to = nullptr;
  int64_t from_jump = 0, to_jump = 0;   // from the end of a row to the next one
  int64_t rows = 0, rows_ahead = 0;     // rows that are left, and how far ahead they are asked for
  int row_pieces = 0, left = 0;         // pieces of a row, and those left of this one
  int64_t ahead = 0, ahead_at_end = 0;  // from a piece to the one that is asked for meanwhile

  JML_MATH void advance() {
    for (int i = 0; i < kPieceBytes; i += 64) __builtin_prefetch(from + ahead + i, 0, 2);
    from += kPieceBytes;
    to += kPieceBytes;
    if (--left > 0) return;
    left = row_pieces;
    from += from_jump;
    to += to_jump;
    if (--rows == rows_ahead) ahead = ahead_at_end;
  }
};

}  // namespace jml::JML_ISA
