// The kernels that there are, and their tiles: how many classes x pixels a thread holds. Reasons, in
// registers of 4 bytes:
//
// - K x V numbers of the tile are 64 to 96 registers, twice that where there is a dense target; with
//   addresses and what is one number for each pixel that leaves 4 warps for each of the 4 schedulers.
//   16 bytes x K loads of a thread are under way at once: far more than the 40 bytes that an H100
//   needs of each thread of 16 warps to cover the way to memory.
// - up to 8 classes: V = 8, so that there is enough under way, and half types still load 16 bytes.
// - more: K = 22, which holds Cityscapes' and VOC's classes in one warp, without a barrier. Beyond,
//   warps share out the classes: 150 are 7 warps of 22.
// - V = 4 for one tensor, 2 for two of them: loads of 16 or 8 bytes in float32.
// - general kernels, which take what is rare and hold more for each number, have 4 x 2; in double
//   precision, where a number is two registers, 4 x 1.
#pragma once

#include "backward.cuh"
#include "forward.cuh"

namespace jml::cuda {

template <bool kSmall>
using HardLabels =
    Config<float, Activation::softmax, true, true, false, false, kSmall ? 8 : 22, kSmall ? 8 : 4,
           kSmall ? 1 : 12>;

template <bool kSmall>
using AnyLabels =
    Config<float, Activation::softmax, true, false, false, false, kSmall ? 8 : 22, kSmall ? 8 : 4,
           kSmall ? 1 : 12>;

template <bool kSmall>
using LabelsAndDense =
    Config<float, Activation::softmax, true, false, true, false, kSmall ? 8 : 22, kSmall ? 4 : 2,
           kSmall ? 1 : 12>;

template <typename F, Activation kActivation>
using General =
    Config<F, kActivation, true, false, true, true, 4, sizeof(F) == sizeof(double) ? 1 : 2, 8>;

}  // namespace jml::cuda
