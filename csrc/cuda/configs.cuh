// The kernels that there are, and their tiles: how many classes x pixels a thread holds.
//
// A thread's part of a tile takes K x V registers, and twice that beside a dense target. With
// addresses and the numbers of each pixel that makes up to 168 registers, which leaves room for 12
// warps on a multiprocessor. Their loads under way (16 bytes x K x 32 for each warp) are more than
// the 20 KB that cover the latency of an H100's memory.
//
//     few    Up to 8 classes: V = 8, so that enough is under way with 2 classes, and half types
//            load 16 bytes at a time. V = 4 where smoothing takes registers too.
//     some   K = 22 holds Cityscapes' and VOC's classes in one warp, which needs no barrier; K = 20
//            beside a dense target. Up to 3 warps share the classes of a tile.
//     many   Half as many pixels: 150 classes are 7 warps, and while one block waits at a barrier
//            another one works. With more registers only one block would live there.
//
// General kernels take what is rare and hold more for each number: their tile is 4 x 2, or 4 x 1 in
// double precision, where a number takes two registers. Two tiles were rejected: 24 x 4 on 16 warps
// (128 registers, so it spills), and 22 x 4 for 150 classes (one block on a multiprocessor).
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

constexpr Tile tile_of(Targets targets, Size size, bool is_backward) {
  switch (targets) {
    case Targets::hard_labels:
      if (size == Size::few) return {8, 8, 1, 12};
      if (size == Size::some) return is_backward ? Tile{22, 2, 3, 20} : Tile{22, 4, 3, 12};
      return {22, 2, 12, 12};
    case Targets::labels:
      if (size == Size::few) return {8, 4, 1, 12};
      if (size == Size::some) return is_backward ? Tile{22, 2, 3, 20} : Tile{22, 4, 3, 12};
      return {22, 2, 12, 12};
    case Targets::dense:
      if (size == Size::few) return {8, 4, 1, 16};
      if (size == Size::some) return is_backward ? Tile{20, 2, 3, 16} : Tile{20, 2, 3, 12};
      if (size == Size::many) return {22, 2, 8, 16};
      return {22, 1, 12, 12};
    default:
      if (size == Size::few) return {8, 4, 1, 12};
      if (size == Size::some) return {20, 2, 3, 12};
      return {22, 1, 12, 12};
  }
}

template <Targets targets, Size size, bool kBackward, Tile (*tile)(Targets, Size, bool) = tile_of>
using Fast =
    Config<float, Activation::softmax, targets != Targets::dense, targets == Targets::hard_labels,
           targets == Targets::dense || targets == Targets::labels_and_dense, false,
           tile(targets, size, kBackward).classes, tile(targets, size, kBackward).pixels,
           tile(targets, size, kBackward).max_warps,
           tile(targets, size, kBackward).warps_at_a_time>;

template <typename F, Activation kActivation>
using General =
    Config<F, kActivation, true, false, true, true, 4, sizeof(F) == sizeof(double) ? 1 : 2, 8, 12>;

}  // namespace jml::cuda
