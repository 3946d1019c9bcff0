// Kernels with a planted error and their clean twins: `planted NAME 1` and `planted NAME 0`.
#include <cuda_runtime.h>

#include <cstring>

#include "harness.h"

namespace {

constexpr unsigned kThreads = 64;

// ---- accesses beyond, by `wrong` numbers -----------------------------------------------------

__global__ void beyond_global(const float* from, float* to, int wrong) {
  to[threadIdx.x] = from[int(threadIdx.x) + wrong];
}

__global__ void beyond_shared(const float* from, float* to, int wrong) {
  float* shared = reinterpret_cast<float*>(shared_memory());
  shared[threadIdx.x] = from[threadIdx.x];
  __syncthreads();
  to[threadIdx.x] = shared[(kThreads - 1 - threadIdx.x) + wrong];
}

__global__ void beyond_shared_array(const float* from, float* to, int wrong) {
  __shared__ float shared[kThreads];
  shared[int(threadIdx.x) + wrong] = from[threadIdx.x];
  __syncthreads();
  to[threadIdx.x] = shared[kThreads - 1 - threadIdx.x];
}

__global__ void misaligned(const float* from, float* to, int wrong) {
  if (threadIdx.x > 0) return;
  to[0] = __ldg(reinterpret_cast<const float4*>(from + wrong)).x;
}

// ---- races -----------------------------------------------------------------------------------

__global__ void no_barrier(const float* from, float* to, int wrong) {
  __shared__ float shared[kThreads];
  shared[threadIdx.x] = from[threadIdx.x];
  if (!wrong) __syncthreads();
  to[threadIdx.x] = shared[kThreads - 1 - threadIdx.x];
}

// A fast thread is in the next round while a slow one still reads.
__global__ void no_second_barrier(const float* from, float* to, int wrong) {
  float* shared = reinterpret_cast<float*>(shared_memory());
  float sum = 0;
  for (int round = 0; round < 3; ++round) {
    shared[threadIdx.x] = from[threadIdx.x] + float(round);
    __syncthreads();
    sum += shared[kThreads - 1 - threadIdx.x];
    if (!wrong) __syncthreads();
  }
  to[threadIdx.x] = sum;
}

__global__ void no_warp_barrier(const float* from, float* to, int wrong) {
  __shared__ float shared[kThreads];
  shared[threadIdx.x] = from[threadIdx.x];
  if (!wrong) __syncwarp();
  to[threadIdx.x] = shared[threadIdx.x ^ 1];
}

// A warp's barrier is none for the block.
__global__ void warp_barrier_only(const float* from, float* to, int wrong) {
  __shared__ float shared[kThreads];
  shared[threadIdx.x] = from[threadIdx.x];
  __syncwarp();
  to[threadIdx.x] = shared[threadIdx.x ^ (wrong ? 32 : 31)];
}

// A warp's barrier orders the lanes of its mask.
__global__ void half_a_warp_barrier(const float* from, float* to, int wrong) {
  __shared__ float shared[kThreads];
  shared[threadIdx.x] = from[threadIdx.x];
  const unsigned half = threadIdx.x & 16 ? 0xffff0000u : 0x0000ffffu;
  for (int i = 0; i < 4; ++i) __syncwarp(half);
  to[threadIdx.x] = shared[threadIdx.x ^ (wrong ? 16 : 15)];
}

// Lanes wait for each other there, but what they wrote to memory need not be seen.
__global__ void shuffle_and_vote_only(const float* from, float* to, int wrong) {
  __shared__ float shared[kThreads];
  shared[threadIdx.x] = from[threadIdx.x];
  const float other = __shfl_xor_sync(~0u, from[threadIdx.x], 1);
  const bool all = __all_sync(~0u, other > 0);
  if (!wrong) __syncwarp();
  to[threadIdx.x] = shared[threadIdx.x ^ 1] + (all ? other : 0);
}

__global__ void no_atomic(const float* from, float* to, int wrong) {
  if (wrong)
    to[0] += from[threadIdx.x];
  else
    atomicAdd(to, from[threadIdx.x]);
}

// ---- threads that wait for each other --------------------------------------------------------

__global__ void different_barriers(const float* from, float* to, int wrong) {
  if (threadIdx.x < 7 && wrong)
    __syncthreads();
  else
    __syncthreads();
  to[threadIdx.x] = from[threadIdx.x];
}

__global__ void lane_missing(const float* from, float* to, int wrong) {
  float value = from[threadIdx.x];
  if (threadIdx.x != 37 || !wrong) value = __shfl_sync(~0u, value, 0);
  __syncthreads();
  to[threadIdx.x] = value;
}

__global__ void lane_outside_mask(const float* from, float* to, int wrong) {
  to[threadIdx.x] = __shfl_sync(wrong ? 0x0fffffffu : ~0u, from[threadIdx.x], 0);
}

__global__ void different_exchanges(const float* from, float* to, int wrong) {
  if (threadIdx.x % 2 == 0 && wrong) __syncwarp();
  to[threadIdx.x] = __shfl_sync(~0u, from[threadIdx.x], 0);
}

struct Case {
  const char* name;
  void (*kernel)(const float*, float*, int);
};
const Case kCases[] = {
    {"beyond_global", beyond_global},
    {"beyond_shared", beyond_shared},
    {"beyond_shared_array", beyond_shared_array},
    {"misaligned", misaligned},
    {"no_barrier", no_barrier},
    {"no_second_barrier", no_second_barrier},
    {"no_warp_barrier", no_warp_barrier},
    {"warp_barrier_only", warp_barrier_only},
    {"half_a_warp_barrier", half_a_warp_barrier},
    {"shuffle_and_vote_only", shuffle_and_vote_only},
    {"no_atomic", no_atomic},
    {"different_barriers", different_barriers},
    {"lane_missing", lane_missing},
    {"lane_outside_mask", lane_outside_mask},
    {"different_exchanges", different_exchanges},
};

}  // namespace

int main(int arguments, char** argument) {
  if (arguments < 3) return 2;
  for (const Case& c : kCases) {
    if (strcmp(argument[1], c.name) != 0) continue;
    const Numbers<float> from(std::vector<float>(kThreads, 1.0f));
    const Numbers<float> to(std::vector<float>(kThreads, 0.0f));
    launch(dim3(2), dim3(kThreads), kThreads * sizeof(float), c.kernel, from.data(), to.data(),
           atoi(argument[2]));
    puts("ended");
    return 0;
  }
  return 2;
}
