// The tile source of logits of lower resolution: a tile of pixels is interpolated as it is filled,
// and the full size exists nowhere else.
//
//     tile     a piece of one row of the full size, so that all of its pixels lie between the same
//              low rows: two, in volumes four
//     fill     a warp blends these rows of its classes, as far as the tile's pixels need them, in
//              shared memory; then each thread blends two neighbours of them for each pixel
//     patch    the way back, to low pixels (patch.cuh)
//
// Blending rows first is done once for each low pixel and not once for each pixel: with a ratio of 4
// that is 2 loads of global memory for 4 elements, where four corners of each would be 16.
//
// What it saves, with E elements of the full size of b bytes: 2 E b that an interpolation writes and
// the loss reads in the forward, and 3 E b in the backward, where the loss would read them again and
// write a gradient that the interpolation's own backward reads. Left are the labels, and the low
// logits, E / 16 with a ratio of 4. So instructions bound it. Of a thread for an element, counted in
// the machine code (sm_90) of the kernels of hard labels, 150 classes, float32, ratio 4:
//     fill            14: 8 to blend rows, which keep 17 of 32 lanes busy, and 6 along the row
//     softmax, sums   about 14 in the forward, 20 in the backward (with the gradient)
//     patch           about 17 in the backward (patch.cuh)
//     the tile        about 9: its place, labels, barriers
// which makes about 37 in the forward and 60 in the backward, and a fifth of these for what patches
// compute twice. With 19 classes a patch finds no more than a warp for its columns: there they are 57
// and 216, as the model of the machine code counts them (benchmarks/sass). An H200 takes 0.73 times as
// long for 32 x 19 x 512 x 512 of boundary smoothing as for PyTorch's interpolation before our loss. So
// cells.cuh takes the place of these kernels for images, and they are left with volumes and what else it
// has no room for. General kernels, which distillation needs, interpolate a tile anew in each pass over
// its classes: they take 3 times as long as interpolation and loss one after the other, in a fraction of
// the memory.
#pragma once

#include "tile_io.cuh"

namespace jml::cuda {

// ---- one dimension --------------------------------------------------------------------------
// The low pixels that a pixel lies between, and the share of the upper one.
template <typename F>
struct Place {
  int lower, upper;
  F weight;

  JML_DEVICE int side(int which) const { return which == 0 ? lower : upper; }
  JML_DEVICE F share(int which) const { return which == 0 ? 1 - weight : weight; }
};

template <typename F>
JML_DEVICE Place<F> place_of(const DeviceAxis& axis, int64_t i) {
  int64_t lower, rest;
  divide(axis.place(i), axis.unit, axis.reciprocal_unit, lower, rest);
  return {int(lower), int(axis.upper(lower)), F(double(rest) * axis.reciprocal_unit)};
}

// How many low pixels a pixel lies between.
JML_DEVICE int sides(const Axis& axis) { return axis.is_interpolated() ? 2 : 1; }

// The first pixel whose place, in units, is a given one or behind it, were the axis without end.
JML_DEVICE int64_t first_pixel_from(const DeviceAxis& axis, int64_t place) {
  int64_t pixel, rest;
  divide(place - axis.offset, axis.step, axis.reciprocal_step, pixel, rest);
  return pixel + (rest > 0);
}

// The first pixel whose lower neighbour is not before a low pixel.
JML_DEVICE int64_t first_pixel_at(const DeviceAxis& axis, int64_t low) {
  if (low <= 0) return 0;
  if (low >= axis.low || axis.step == 0) return axis.full;
  return first_pixel_from(axis, low * axis.unit);
}

// ---- tiles ----------------------------------------------------------------------------------
// A box of pixels of an image, which a block goes through tile by tile, sharing it with others or
// not. Rows are cut into pieces of about the same length. It lies in shared memory: a thread needs it
// only between tiles.
struct alignas(16) Box {
  int64_t begin[3], size[3];
  int64_t tiles, first_tile, tile_step;  // of all tiles, those of the block
  int64_t pieces, piece_pixels;
  double reciprocal_pieces, reciprocal_rows;

  // Cuts the box into tiles, once begin and size are known.
  JML_DEVICE void cut(const Arguments& args, int64_t first, int64_t step) {
    const int64_t tile_pixels = args.tile_pixels;
    pieces = (size[2] + tile_pixels - 1) / tile_pixels;
    piece_pixels = (size[2] + pieces - 1) / pieces;
    tiles = size[0] * size[1] * pieces;
    first_tile = first;
    tile_step = step;
    reciprocal_pieces = 1.0 / double(pieces);
    reciprocal_rows = 1.0 / double(size[1]);
  }

  // The whole image, shared by `args.parts` blocks. Without upsample it is one long row.
  JML_DEVICE void take_image(const Arguments& args) {
    for (int d = 0; d < 3; ++d) {
      begin[d] = 0;
      size[d] = args.upsample ? args.spatial[d] : d < 2 ? 1 : args.pixels;
    }
    cut(args, int(blockIdx.x) % args.parts, args.parts);
  }

  // The first pixel of a tile, and how many it has; 0 where there is none left.
  JML_DEVICE int find(int step, Position& first) const {
    const int64_t tile = first_tile + step * tile_step;
    if (tile >= tiles) return 0;
    int64_t line, piece;
    divide(tile, pieces, reciprocal_pieces, line, piece);
    divide(line, size[1], reciprocal_rows, first.depth, first.row);
    first.depth += begin[0];
    first.row += begin[1];
    first.column = begin[2] + piece * piece_pixels;
    const int64_t left = size[2] - piece * piece_pixels;
    return int(left < piece_pixels ? left : piece_pixels);
  }
};

// Where the pixels of a tile lie among those of a tensor of lower resolution. All threads of a block
// write it, in shared memory, when they enter the tile.
template <typename F, int kPixels>
struct alignas(16) TilePlaces {
  Place<F> depth, row;
  int64_t first;          // pixel of the row
  int64_t row_offset[4];  // of the low rows, 2 for each side of the first dimension
  F row_share[4];
  int lower[kPixels];  // along the row
  F weight[kPixels];

  JML_DEVICE void write(const TensorView& view, const Axes& axes, const Position& first, int pixels,
                        const Team& team) {
    for (int i = team.rank(); i < pixels; i += team.threads()) {
      const Place<F> place = place_of<F>(axes.of[2], first.column + i);
      lower[i] = place.lower;
      weight[i] = place.weight;
    }
    if (team.rank() >= 4) return;
    const int i = team.rank();
    const Place<F> of_depth = place_of<F>(axes.of[0], first.depth);
    const Place<F> of_row = place_of<F>(axes.of[1], first.row);
    row_offset[i] = of_depth.side(i / 2) * view.spatial_stride[0] +
                    of_row.side(i % 2) * view.spatial_stride[1];
    row_share[i] = of_depth.share(i / 2) * of_row.share(i % 2);
    if (i > 0) return;
    this->first = first.column;
    depth = of_depth;
    row = of_row;
  }
};

// ---- fill -----------------------------------------------------------------------------------
// What a block has of low rows, or of rows of the gradient: one for each class of a chunk. The
// pitch is odd, so that lanes that read one column of 32 rows meet in no bank.
template <class C>
struct TileRows {
  static constexpr int kPixels = C::V * kLanes, kPitch = kPixels + 1;  // an upper neighbour more

  static constexpr int64_t bytes(int64_t classes) {
    return classes * kPitch * int64_t(sizeof(typename C::F));
  }
};

// Blends the low rows of the warp's classes, as far as the tile's pixels need them, into `rows`.
template <class C, bool kLogits, typename F>
JML_DEVICE void blend_rows(const TensorView& view, const Axes& axes,
                           const TilePlaces<F, C::V * kLanes>& places, const TileRange& range,
                           const Team& team, F* rows) {
  constexpr int kPitch = TileRows<C>::kPitch;
  constexpr int kGroup = C::K > 12 ? (C::K + 1) / 2 : C::K;  // classes at a time: registers are short
  const int first = places.lower[0], last = int(axes.of[2].low) - 1;
  const int columns = places.lower[range.pixels - 1] - first + sides(axes.of[2]);
  const bool has_two = axes.of[0].is_interpolated();
  for (int i = team.lane; i < columns; i += kLanes) {
    const int column = first + i < last ? first + i : last;
#pragma unroll 1
    for (int group = 0; group < range.classes; group += kGroup) {
      F blended[kGroup] = {};
      with_type<F, kLogits>(view.dtype, [&](auto type) {
        using S = decltype(type);
        const S* const start = static_cast<const S*>(view.data) + range.image * view.image_stride +
                               (range.first_class + group) * view.class_stride +
                               column * view.spatial_stride[2];
#pragma unroll 1
        for (int row = 0; row < sides(axes.of[1]); ++row) {
          const F share = places.row_share[row], other_share = places.row_share[2 + row];
          const S *from = start + places.row_offset[row], *other = start + places.row_offset[2 + row];
#pragma unroll
          for (int k = 0; k < kGroup; ++k) {
            S value{}, other_value{};
            if (group + k < range.classes) {
              value = *from;
              if (has_two) other_value = *other;
            }
            blended[k] += share * convert<F>(value);
            // Of a dimension that is not interpolated the other side has no weight.
            if (has_two) blended[k] += other_share * convert<F>(other_value);
            from += view.class_stride;
            other += view.class_stride;
          }
        }
      });
#pragma unroll
      for (int k = 0; k < kGroup; ++k)
        if (group + k < range.classes) rows[(group + k) * kPitch + i] = blended[k];
    }
  }
}

// Fills a tile from a tensor of lower resolution. `rows` are those of the warp's classes. Beyond the
// last pixel the tile holds any numbers.
template <class C, bool kLogits, int K, int V, typename F>
JML_DEVICE void fill_interpolated(F (&tile)[K][V], const TensorView& view, const Axes& axes,
                                  const TilePlaces<F, V * kLanes>& places, const TileRange& range,
                                  const Team& team, F* rows) {
  constexpr int kPitch = TileRows<C>::kPitch;
  __syncwarp();  // whoever still reads what the rows held before
  blend_rows<C, kLogits>(view, axes, places, range, team, rows);
  __syncwarp();
  const F* from[V];
  F weight[V], other_weight[V];
#pragma unroll
  for (int v = 0; v < V; ++v) {
    const int pixel = v * kLanes + team.lane < range.pixels ? v * kLanes + team.lane : 0;
    from[v] = rows + (places.lower[pixel] - places.lower[0]);
    weight[v] = places.weight[pixel];
    other_weight[v] = 1 - weight[v];
  }
  const auto fill = [&](auto blend) {
#pragma unroll
    for (int k = 0; k < K; ++k)
#pragma unroll
      for (int v = 0; v < V; ++v)
        tile[k][v] = k < range.classes ? blend(from[v] + k * kPitch, v) : F(0);
  };
  if (axes.of[2].is_interpolated())
    fill([&](const F* low, int v) { return other_weight[v] * low[0] + weight[v] * low[1]; });
  else
    fill([](const F* low, int) { return low[0]; });
}

}  // namespace jml::cuda
