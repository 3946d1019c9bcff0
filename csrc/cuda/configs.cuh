// The kernels that there are, and their tiles: how many classes x pixels a thread holds.
//
// A thread's part of a tile takes K x V registers, twice that beside a dense target; with addresses
// and what is one number for each pixel that is up to 168 registers, or 12 warps for a
// multiprocessor, whose loads under way (16 bytes x K x 32 for each warp) are more than the 20 KB
// that cover an H100's way to memory.
//
//     few    up to 8 classes: V = 8, so that there is enough under way with 2 classes, and half
//            types load 16 bytes; 4 where smoothing takes registers too
//     some   K = 22 holds Cityscapes' and VOC's classes in one warp, without a barrier, 20 beside a
//            dense target; up to 3 warps share the classes of a tile
//     many   half as many pixels: 150 classes are 7 warps, and while one block waits at a barrier
//            another works; with more registers only one block would live there
//
// General kernels, which take what is rare and hold more for each number, have 4 x 2; in double
// precision, where a number is two registers, 4 x 1. Rejected: 24 x 4 on 16 warps (128 registers,
// spills); 22 x 4 for 150 classes (one block).
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

template <bool kHard, bool kDense, Size size>
using Fast = Config<float, Activation::softmax, true, kHard, kDense, false,
                    classes_of(size, kDense), pixels_of(size, kHard, kDense), warps_of(size)>;

template <Size size>
using HardLabels = Fast<true, false, size>;
template <Size size>
using AnyLabels = Fast<false, false, size>;
template <Size size>
using LabelsAndDense = Fast<false, true, size>;

template <typename F, Activation kActivation>
using General =
    Config<F, kActivation, true, false, true, true, 4, sizeof(F) == sizeof(double) ? 1 : 2, 8>;

}  // namespace jml::cuda
