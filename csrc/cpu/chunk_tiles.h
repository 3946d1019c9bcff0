// The tiles of a chunk, one after the other.
#pragma once

#include "layout.h"

namespace jml::JML_ISA {

// Tile `tile` of a chunk; none beyond the last.
inline Pixels tile_of_chunk(const Arguments& args, int64_t chunk, int64_t tile) {
  const int64_t chunk_first = chunk % args.chunks_per_image * args.tiles_per_chunk * args.tile_pixels;
  const int64_t last = std::min(args.pixels, chunk_first + args.tiles_per_chunk * args.tile_pixels);
  const int64_t first = chunk_first + tile * args.tile_pixels;
  if (first >= last) return {};
  return {chunk / args.chunks_per_image, first, int(std::min(args.tile_pixels, last - first))};
}

// The same where a chunk consists of rows, plane by plane.
inline Pixels tile_of_rows(const Arguments& args, int64_t chunk, int64_t tile) {
  const RowCut& cut = args.rows;
  const int64_t *begin = cut.first + chunk % args.chunks_per_image, height = args.spatial[1],
                width = args.spatial[2];
  const int64_t groups = (begin[1] - begin[0] + cut.per_tile - 1) / cut.per_tile;
  const int64_t tiles_of_plane = groups * cut.tiles_per_row;
  if (tile >= args.spatial[0] * tiles_of_plane) return {};
  const int64_t plane = tile / tiles_of_plane, group = tile % tiles_of_plane / cut.tiles_per_row;
  const int64_t row = begin[0] + group * cut.per_tile;
  const int64_t x = tile % cut.tiles_per_row * args.tile_pixels;
  const int64_t rows = std::min(cut.per_tile, begin[1] - row);
  return {chunk / args.chunks_per_image, (plane * height + row) * width + x,
          int(std::min(args.tile_pixels, rows * width - x))};
}

// Calls body(pixels of a tile, pixels of the next one) for the tiles of a chunk, of chunks that go
// up to `end`.
template <typename Body>
inline void for_tiles(const Arguments& args, int64_t chunk, int64_t end, Body body) {
  const auto tile_at = [&](int64_t chunk, int64_t tile) {
    return chunk >= end    ? Pixels()
           : args.upsample ? tile_of_rows(args, chunk, tile)
                           : tile_of_chunk(args, chunk, tile);
  };
  Pixels pixels = tile_at(chunk, 0);
  for (int64_t tile = 1; pixels.image >= 0; ++tile) {
    const Pixels next = tile_at(chunk, tile);
    body(pixels, next.image >= 0 ? next : tile_at(chunk + 1, 0));
    pixels = next;
  }
}

}  // namespace jml::JML_ISA
