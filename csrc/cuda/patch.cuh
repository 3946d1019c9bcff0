// The gradient of logits of lower resolution: the transposed of upsampling.cuh, without atomics.
//
// A block owns a patch of low pixels and goes through all pixels that are made of one of them, row
// by row. What belongs to other patches is left out, and the pixels that two patches are made of are
// computed by both: a low pixel is written once, by one block, and its sum always has the same order.
//
//     tile of gradients -> rows in shared memory, one a class
//                       -> along each row to low columns      a thread has some columns of a class
//                       -> added to the low rows of the tile  sums of two rows, in volumes of two
//                                                             planes of a patch's rows
//                       -> the tensor                         once a row, or plane, is complete
//
// What is computed twice. A patch of a x b low pixels, ratio r, has (a + 1) r x (b + 1) r pixels. The
// number of columns b is chosen so that the tiles of a row have few lanes without a pixel (15 with a
// ratio of 4 and tiles of 64 pixels, 1/16 twice), and a so that blocks are as many as the device
// holds at a time, or a multiple (launch.cuh). Shared memory holds the sums of 2 b low pixels of all
// classes, which are 18 KB for 150 classes, and the rows of one chunk of classes: 8 KB with 8 warps of
// 4 classes, and 39 KB for 150 classes at a time.
// Many classes leave less room for columns, and more is computed twice: 1000 classes leave 6.
//
// Of a thread it takes, for each element, 2 instructions to store it and 5 to gather it; for each
// column of a tile some 55 more, of which the additions to two sums are 18, so that a ratio of 4 makes
// of these 10 an element and one of 8 half of that.
#pragma once

#include "upsampling.cuh"

namespace jml::cuda {

// The patch of a block: low pixels [first, first + size) along each dimension. In shared memory.
struct alignas(16) Patch {
  int64_t first[3], size[3];
  int64_t open;  // along the first dimension: what comes before it is written
  // The first pixel of the box's rows that lies at or behind each column, from the one before the
  // patch on.
  int start[kMaxPatchColumns + 2];

  // Finds the patch, and the box of pixels that are made of it. One thread does it.
  JML_DEVICE void find(const Arguments& args, int number, Box& box) {
    const int64_t columns = args.patches.count[2], rows = args.patches.count[1];
    const int64_t at[3] = {number / (columns * rows), number / columns % rows, number % columns};
#pragma unroll
    for (int d = 0; d < 3; ++d) {
      const DeviceAxis& axis = args.logits_axes.of[d];
      first[d] = at[d] * args.patches.size[d];
      const int64_t left = axis.low - first[d];
      size[d] = left < args.patches.size[d] ? left : args.patches.size[d];
      box.begin[d] = first_pixel_at(axis, first[d] - axis.is_interpolated());
      box.size[d] = first_pixel_at(axis, first[d] + size[d]) - box.begin[d];
    }
    open = first[0];
    for (int i = 0; i < size[2] + 2; ++i)
      start[i] = int(first_pixel_at(args.logits_axes.of[2], first[2] - 1 + i) - box.begin[2]);
  }
};

template <class C>
class PatchSums {
 public:
  using F = typename C::F;
  static constexpr int kPitch = TileRows<C>::kPitch;
  using Places = TilePlaces<F, C::V * kLanes>;

  JML_MATH static int64_t shared_bytes(const Arguments& args) {
    if (!args.upsample) return 0;
    const int64_t numbers = 2 * args.patches.size[1] * args.patches.size[2] * args.classes;
    return int64_t(sizeof(Patch)) + (numbers * int64_t(sizeof(F)) + 15) / 16 * 16;
  }

  // Begins the patch of the block; without upsample there is none, and blocks share an image. A
  // barrier has to follow.
  JML_DEVICE PatchSums(const Arguments& args, const Team& team, unsigned char* memory, Box& box)
      : args(args), team(team), box(box), patch(*reinterpret_cast<Patch*>(memory)),
        sums(reinterpret_cast<F*>(memory + sizeof(Patch))) {
    if (!args.upsample) {
      if (team.rank() == 0) box.take_image(args);
      return;
    }
    if (team.rank() == 0) {
      patch.find(args, int(blockIdx.x) % args.parts, box);
      box.cut(args, 0, 1);
    }
    const int count = 2 * plane_size();
    for (int i = team.rank(); i < count; i += team.threads()) sums[i] = 0;
  }

  // Adds a tile of some classes, whose rows are written. The caller has a barrier before, and one
  // after.
  JML_DEVICE void add(const F* rows, const Places& places, int pixels, int first_class,
                      int classes) const {
    // As many groups of columns as find a thread each.
    const int columns = int(patch.size[2]);
    int groups = team.threads() / classes;
    groups = groups < 1 ? 1 : groups > columns ? columns : groups;
    const RowSums row_sums = row_sums_of(places);
    const int group_columns = (columns + groups - 1) / groups;
    int c = team.rank(), begin = 0;
    for (;; c += team.threads()) {
      for (; c >= classes; c -= classes) begin += group_columns;  // a division is slower
      if (begin >= columns) break;
      const int end = begin + group_columns < columns ? begin + group_columns : columns;
      add_columns(rows + c * kPitch, places, row_sums, pixels, first_class + c, begin, end);
    }
  }

  // Writes what is complete once the tiles come to a low pixel of the first dimension. All threads
  // call it, between two barriers.
  JML_DEVICE void write_before(int64_t next, int image) {
    int64_t open = patch.open;
    const int64_t end = patch.first[0] + patch.size[0];
    for (; open < next && open < end; ++open) write(open, image);
  }
  // Takes note of it. One thread does, once the others have come to a barrier.
  JML_DEVICE void set_open(int64_t next) const {
    if (next > patch.open) patch.open = next;
  }

 private:
  const Arguments& args;
  const Team team;  // a copy: a reference would keep the tile of the kernel in memory
  const Box& box;
  Patch& patch;
  F* sums;  // [2][rows of a patch][columns of a patch][classes]

  JML_DEVICE int columns() const { return int(args.patches.size[2]); }
  JML_DEVICE int row_size() const { return columns() * int(args.classes); }
  JML_DEVICE int plane_size() const { return int(args.patches.size[1]) * row_size(); }

  // The sums that a tile adds to, those of its low rows that are the patch's, and their shares: two
  // for each side of the first dimension.
  struct RowSums {
    F* sums;
    bool is_volume;
    int begin[4];  // of a row's sums, or -1
    F share[4];

    JML_DEVICE void add(int i, F number) const {
      const auto add_to = [&](int row) {
        if (begin[row] >= 0) sums[begin[row] + i] += share[row] * number;
      };
      add_to(0);
      add_to(2);
      if (!is_volume) return;
      add_to(1);
      add_to(3);
    }
  };
  JML_DEVICE RowSums row_sums_of(const Places& places) const {
    const Axis &depths = args.logits_axes.of[0], &rows = args.logits_axes.of[1];
    RowSums found{sums, rows.is_interpolated()};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int64_t depth = places.depth.side(i / 2), in_patch = depth - patch.first[0];
      const int64_t row = places.row.side(i % 2) - patch.first[1];
      const bool is_used = i / 2 < sides(depths) && i % 2 < sides(rows) && in_patch >= 0 &&
                           in_patch < patch.size[0] && row >= 0 && row < patch.size[1];
      found.begin[i] = is_used ? int(depth % 2) * plane_size() + int(row) * row_size() : -1;
      found.share[i] = places.depth.share(i / 2) * places.row.share(i % 2);
    }
    return found;
  }

  // The columns [begin, end) of the patch, of one class. A cell are the pixels that have the same
  // lower neighbour: a column gets the lower shares of its own cell, and the upper ones of the cell
  // before.
  JML_DEVICE void add_columns(const F* row, const Places& places, const RowSums& row_sums,
                              int pixels, int c, int begin, int end) const {
    const int first = int(places.first - box.begin[2]);
    const auto index = [&](int column) {  // of a column's first pixel, within the tile
      const int pixel = patch.start[column + 1] - first;
      return min(max(pixel, 0), pixels);
    };
    const int64_t last_column = args.logits_axes.of[2].low - 1 - patch.first[2];
    int i = index(begin - 1), before = i;  // the first pixel of the cell before
    F upper_before = 0;
    for (int column = begin - 1; column < end; ++column) {
      const int start = i, stop = index(column + 1);
      F all = 0, upper = 0;
#pragma unroll 4
      for (; i < stop; ++i) {
        all += row[i];
        upper += places.weight[i] * row[i];
      }
      if (column >= begin && stop > before)  // behind the last column there is none: it gets both
        row_sums.add(column * int(args.classes) + c,
                     upper_before + all - (column == last_column ? F(0) : upper));
      before = start;
      upper_before = upper;
    }
  }

  // Writes the low pixels at a place of the first dimension, and clears their sums.
  JML_DEVICE void write(int64_t depth, int image) const {
    const TensorView& view = args.grad;
    F* const plane = sums + depth % 2 * plane_size();
    const int columns = int(patch.size[2]), rows = int(patch.size[1]);
    const int classes = int(args.classes);
    with_type<F, true>(view.dtype, [&](auto type) {
      using S = decltype(type);
#pragma unroll 1
      for (int row = 0; row < rows; ++row) {
        F* const from = plane + row * row_size();
        S* const to = static_cast<S*>(view.data) + image * view.image_stride +
                      depth * view.spatial_stride[0] +
                      (patch.first[1] + row) * view.spatial_stride[1] +
                      patch.first[2] * view.spatial_stride[2];
        const auto put = [&](int column, int c) {
          F& sum = from[column * classes + c];
          to[column * view.spatial_stride[2] + c * view.class_stride] = convert_back<S>(sum);
          sum = 0;
        };
        if (view.class_stride == 1) {  // the lanes of a warp write what lies side by side
#pragma unroll 1
          for (int column = team.warp; column < columns; column += team.warps)
#pragma unroll 1
            for (int c = team.lane; c < classes; c += kLanes) put(column, c);
        } else {
#pragma unroll 1
          for (int c = team.warp; c < classes; c += team.warps)
#pragma unroll 1
            for (int column = team.lane; column < columns; column += kLanes) put(column, c);
        }
      }
    });
  }
};

// In the place of PatchSums where tiles are stored as they are.
struct NoPatch {
  JML_MATH static int64_t shared_bytes(const Arguments&) { return 0; }
  JML_DEVICE NoPatch(const Arguments&, const Team&, unsigned char*, Box&) {}
};

}  // namespace jml::cuda
