// The kernels that there are, and their tiles: how many classes x pixels a thread holds.
//
// A thread's part of a tile takes K x V registers, and twice that beside a dense target; addresses
// and the numbers of each pixel take another 50 to 80. A multiprocessor has 65536 registers, so
// that 168 of a thread leave room for 12 warps, 128 for 16 and 96 for 20. These figures were measured on
// an H200 with 53 x 19 x 512 x 512 and 6 x 150 x 512 x 512 logits of float32.
//
//     few    Up to 8 classes: V = 8, so that enough is under way with 2 classes, and half types
//            load 16 bytes at a time. V = 4 where smoothing or a dense target takes registers too.
//     some   K = 22 holds Cityscapes' and VOC's classes in one warp, which needs no barrier; K = 20
//            beside a dense target. Up to 3 warps share the classes of a tile. In the forward 4
//            pixels are better than 2: the work for each of a tile's classes is then shared by more
//            (labels take 0.89 of the time, boundary smoothing 0.71). In the backward 2 pixels and
//            20 warps are better, since it waits for more (0.97, and 0.61 with boundary smoothing).
//     many   150 classes are 7 warps, and while one block waits at a barrier another one works, so
//            that two blocks have to find room. For a dense target alone that leaves 128 registers,
//            and 2 pixels then spill some 30 of them to the nearest cache. They are faster all the
//            same than one pixel without a spill, which loads no vectors (0.67 of the time in the
//            forward, 0.74 in the backward). So is the backward of some classes, with 20 spilled
//            registers for 16 warps in place of 12 (0.85); its forward is not (1.18), nor is
//            the backward beside labels too (1.13, between two runs): these do not spill.
//     most   More classes than 8 warps hold.
//
// Of logits of lower resolution there are two sizes for labels, in both directions the same: 8 warps
// hold 160 classes, and two such blocks find room with 128 registers. With 22 classes a kernel spills
// there. Dense targets and more classes are for general kernels.
//
// General kernels take what is rare and hold more for each number: their tile is 4 x 2, or 4 x 1 in
// double precision, where a number takes two registers. Rejected were 11 x 4 and 10 x 4 tiles on
// two warps for 19 classes (1.24 times as slow with labels, and within 6 % with dense targets), 16 x
// 2 on 10 warps for 150 (1.1 and 1.4 times as slow), and bins in shared memory for the rows of sums in
// place of shuffles (1.13 times as slow with labels, 0.95 with dense targets).
#pragma once

#include "backward.cuh"
#include "forward.cuh"
#include "kernels.h"

namespace jml::cuda {

// The targets that a fast kernel is compiled for.
enum class Targets { hard_labels, labels, dense, labels_and_dense };

struct Tile {
  int classes, pixels, max_warps, warps_at_a_time;
};

constexpr Tile tile_of_labels(Targets targets, Size size, bool is_backward) {
  switch (size) {
    case Size::few: return {8, targets == Targets::hard_labels ? 8 : 4, 1, 12};
    case Size::some: return is_backward ? Tile{22, 2, 3, 20} : Tile{22, 4, 3, 12};
    default: return {22, 2, 12, 12};
  }
}

constexpr Tile tile_of_dense(Size size, bool is_backward) {
  switch (size) {
    case Size::few: return {8, 4, 1, 16};
    case Size::some: return {20, 2, 3, is_backward ? 16 : 12};
    case Size::many: return {22, 2, 8, 16};
    default: return {22, 1, 12, 12};
  }
}

constexpr Tile tile_of_labels_and_dense(Size size) {
  switch (size) {
    case Size::few: return {8, 4, 1, 12};
    case Size::some: return {20, 2, 3, 12};
    default: return {22, 1, 12, 12};
  }
}

constexpr bool has_dense(Targets targets) {
  return targets == Targets::dense || targets == Targets::labels_and_dense;
}

constexpr Tile tile_of_upsampling(Size size) {
  return size == Size::few ? Tile{8, 4, 1, 12} : Tile{20, 2, 8, 16};
}

constexpr Tile tile_of(Targets targets, Size size, bool is_backward, bool is_upsampling) {
  if (is_upsampling) return tile_of_upsampling(size);
  switch (targets) {
    case Targets::dense: return tile_of_dense(size, is_backward);
    case Targets::labels_and_dense: return tile_of_labels_and_dense(size);
    default: return tile_of_labels(targets, size, is_backward);
  }
}

template <Targets targets, Size size, bool is_backward, bool kUpsample>
constexpr Tile kTile = tile_of(targets, size, is_backward, kUpsample);

template <Targets targets, Size size, bool is_backward, bool kUpsample>
using Fast = Config<float, Activation::softmax, targets != Targets::dense,
                    targets == Targets::hard_labels, has_dense(targets), false, kUpsample,
                    kTile<targets, size, is_backward, kUpsample>.classes,
                    kTile<targets, size, is_backward, kUpsample>.pixels,
                    kTile<targets, size, is_backward, kUpsample>.max_warps,
                    kTile<targets, size, is_backward, kUpsample>.warps_at_a_time>;

template <typename F, Activation kActivation>
using General = Config<F, kActivation, true, false, true, true, false, 4,
                       sizeof(F) == sizeof(double) ? 1 : 2, 8, 12>;

}  // namespace jml::cuda
