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

constexpr int warps_of(Size size) { return size == Size::few ? 1 : size == Size::some ? 3 : 12; }

constexpr int classes_of(Size size, bool dense) {
  return size == Size::few ? 8 : size == Size::some && dense ? 20 : 22;
}

constexpr int pixels_of(Size size, bool hard, bool dense) {
  if (size == Size::few) return hard ? 8 : 4;
  return (size == Size::some ? 4 : 2) / (dense ? 2 : 1);
}

template <bool kLabels, bool kHard, bool kDense, Size size>
using Fast = Config<float, Activation::softmax, kLabels, kHard, kDense, false,
                    classes_of(size, kDense), pixels_of(size, kHard, kDense), warps_of(size)>;

template <Size size>
using HardLabels = Fast<true, true, false, size>;
template <Size size>
using AnyLabels = Fast<true, false, false, size>;
template <Size size>
using DenseAlone = Fast<false, false, true, size>;
template <Size size>
using LabelsAndDense = Fast<true, false, true, size>;

template <typename F, Activation kActivation>
using General =
    Config<F, kActivation, true, false, true, true, 4, sizeof(F) == sizeof(double) ? 1 : 2, 8>;

}  // namespace jml::cuda
