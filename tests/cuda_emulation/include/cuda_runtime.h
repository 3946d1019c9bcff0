// An emulation of CUDA for tests: a host's compiler takes the kernels' own files, and a grid runs
// block by block, on the host. The threads of a block are fibers that take turns, each running
// until it waits for others at __syncthreads or in a warp's exchange; all is deterministic.
//
//   g++ -x c++ -std=c++17 -O2 -DJML_CUDA_EMULATION -I tests/cuda_emulation/include
//       -fno-strict-aliasing -fvisibility=hidden -Wno-unknown-pragmas kernel.cu
//
// -fsanitize=address finds accesses beyond an allocation, dynamic shared memory among them, which
// every block gets anew, of the exact size and filled with 0xff. -fsanitize=thread finds accesses
// that __syncthreads and __syncwarp leave without order; shuffles and votes promise none.
// -fsanitize=alignment finds vectors at addresses that are not aligned for them, which fault on a
// GPU. ThreadSanitizer knows the last four accesses of eight bytes, and is some 100 times slower:
// small blocks, small grids.
//
// What waits for ever is an error, as are a barrier that threads of a block reach at different
// places, an exchange by a lane that its mask leaves out, and a launch that a GPU would refuse.
//
// What it does not model, so that kernels which are right here may be wrong on a GPU:
//   - Blocks at once. They run one after another: no race between blocks is seen, but for what
//     another order of them shows (JML_CUDA_EMULATION_ORDER, see Turns).
//   - Threads at once. Turns change only where threads wait: a thread that spins until another
//     one writes hangs, and an update that lacks an atomic is lost only under -fsanitize=thread's
//     eyes. Lanes are not in lockstep, which is what CUDA promises since Volta.
//   - The memory model: fences do nothing, what one thread writes all see at once. Nor address
//     spaces: any pointer of the host will do.
//   - Shared arrays that are not dynamic: they hold what the block before left in them, and do not
//     count as shared memory of the launch.
//   - Limits of registers and __launch_bounds__; occupancy is a constant.
//   - The last bits: a * b + c is not contracted, and functions such as __expf are exact to
//     rounding. Denormal numbers are kept.
//   - Time: banks, coalescing, contention of atomics, divergence.
//   - Which functions are the host's and which the device's.
#pragma once

#if !defined(JML_CUDA_EMULATION)
#error "compile with -DJML_CUDA_EMULATION"
#endif
#if defined(__CUDACC__)
#error "nvcc has the real <cuda_runtime.h>"
#endif

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

// The host's headers first: they may use the names that become macros below.
#include <cmath>
#include <cstring>
#include <type_traits>
#include <utility>

#include "emulation/block.h"
#include "emulation/math.h"
#include "emulation/memory.h"
#include "emulation/runtime.h"
#include "emulation/vector_types.h"
#include "emulation/warp.h"

#define __global__
#define __device__
#define __host__
#define __constant__
#define __grid_constant__
#define __launch_bounds__(...)
#define __forceinline__ inline __attribute__((always_inline))
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __builtin_assume(condition) ((void)0)

// One block runs at a time: its shared arrays are the process's. They hold what the block before
// left in them. `extern __shared__` does not compile: see jml_cuda_emulation::shared_memory.
#define __shared__ static

// Read-only, as in CUDA, and variables where a launch's configuration has a field of the name.
#define threadIdx (static_cast<const uint3&>(jml_cuda_emulation::current->index))
inline const uint3& blockIdx = jml_cuda_emulation::block_index;
inline const dim3& blockDim = jml_cuda_emulation::block_dimensions;
inline const dim3& gridDim = jml_cuda_emulation::grid_dimensions;
inline const int& warpSize = jml_cuda_emulation::warp_size;
