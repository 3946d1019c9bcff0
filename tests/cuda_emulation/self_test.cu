// Right kernels, for what the emulation computes: `self_test NAME` reads numbers from standard
// input and writes the results; the tests know them from elsewhere.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>

#include "harness.h"

namespace {

// ---- blocks ----------------------------------------------------------------------------------

// Sums of blockDim.x numbers each: warps by shuffles, then the block by shared memory.
__global__ void __launch_bounds__(128) reduce(const float* __restrict__ from, int count,
                                              float* __restrict__ sums) {
  __shared__ float of_warps[4];
  const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
  float sum = i < count ? __ldg(from + i) : 0.0f;
#pragma unroll
  for (int bits = warpSize / 2; bits > 0; bits /= 2) sum += __shfl_xor_sync(~0u, sum, bits);
  if (threadIdx.x % warpSize == 0) of_warps[threadIdx.x / warpSize] = sum;
  __syncthreads();
  if (threadIdx.x > 0) return;
  float total = 0;
  for (unsigned w = 0; w < blockDim.x / warpSize; ++w) total += of_warps[w];
  sums[blockIdx.x] = total;
}

// Reverses the numbers of each block by dynamic shared memory, round after round.
__global__ void reverse(const int* from, int* to, int rounds) {
  int* shared = reinterpret_cast<int*>(shared_memory());
  const unsigned here = threadIdx.x, there = blockDim.x - 1 - here;
  int value = from[blockIdx.x * blockDim.x + here];
  for (int i = 0; i < rounds; ++i) {
    shared[here] = value;
    __syncthreads();
    value = shared[there];
    __syncthreads();
  }
  to[blockIdx.x * blockDim.x + here] = value;
}

// What a block finds in its shared memory.
__global__ void unwritten(uint32_t* to) {
  uint32_t* shared = reinterpret_cast<uint32_t*>(shared_memory());
  to[blockIdx.x * blockDim.x + threadIdx.x] = shared[threadIdx.x];
  __syncthreads();
  shared[threadIdx.x] = 1;
}

__global__ void indices(uint3* to) {
  const unsigned threads = blockDim.x * blockDim.y * blockDim.z;
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  to[2 * (block * threads + thread)] = blockIdx;
  to[2 * (block * threads + thread) + 1] = threadIdx;
}

// The block's barriers that count; odd threads leave before the second.
__global__ void counts(int* to) {
  int* row = to + 4 * threadIdx.x;
  row[0] = __syncthreads_count(threadIdx.x % 3 == 0);
  if (threadIdx.x % 2 == 1) return;
  row[1] = __syncthreads_count(threadIdx.x % 3 == 0);
  row[2] = __syncthreads_or(threadIdx.x == 6);
  row[3] = __syncthreads_and(threadIdx.x % 2 == 0);
}

// Who comes when: the order of turns shows here, and only here.
__global__ void tickets(unsigned* next, unsigned* to) {
  to[blockIdx.x * blockDim.x + threadIdx.x] = atomicAdd(next, 1u);
}

// ---- warps -----------------------------------------------------------------------------------

template <typename T>
__device__ T* shuffle_row(T value, T* to) {
  *to++ = __shfl_sync(~0u, value, 3);
  *to++ = __shfl_sync(~0u, value, 11, 8);
  *to++ = __shfl_up_sync(~0u, value, 2);
  *to++ = __shfl_up_sync(~0u, value, 3, 4);
  *to++ = __shfl_down_sync(~0u, value, 1, 4);
  *to++ = __shfl_xor_sync(~0u, value, 1);
  *to++ = __shfl_xor_sync(~0u, value, 9, 8);
  return to;
}

template <typename T>
__global__ void shuffles(const T* from, T* to) {
  shuffle_row(from[threadIdx.x], to + 7 * threadIdx.x);
}

__global__ void votes(const int* from, unsigned* to) {
  const int yes = from[threadIdx.x];
  unsigned* row = to + 6 * threadIdx.x;
  row[0] = __ballot_sync(~0u, yes);
  row[1] = unsigned(__any_sync(~0u, yes));
  row[2] = unsigned(__all_sync(~0u, yes));
  // The halves of a warp, at different times.
  const unsigned half = threadIdx.x & 16 ? 0xffff0000u : 0x0000ffffu;
  row[3] = row[4] = 0;
  if (threadIdx.x & 16) row[3] = __ballot_sync(half, yes);
  row[4] = __ballot_sync(half, !yes);
  __syncwarp(half);
  if (threadIdx.x % 32 >= 8) return;
  __syncwarp();
  row[5] = __ballot_sync(0xffu, yes);
}

// Of all lanes, and of those that bring the same number.
__global__ void groups(const int* from, unsigned* to) {
  const int value = from[threadIdx.x];
  unsigned* row = to + 4 * threadIdx.x;
  const unsigned same = row[0] = __match_any_sync(~0u, value);
  row[1] = __match_any_sync(~0u, int64_t{value} << 32);
  row[2] = __reduce_add_sync(~0u, unsigned(value));
  row[3] = __reduce_add_sync(same, unsigned(value) + 1);
}

// ---- memory ----------------------------------------------------------------------------------

template <typename Vector>
__global__ void copy(const Vector* from, Vector* to, unsigned count) {
  for (unsigned i = threadIdx.x; i < count; i += blockDim.x)
    if (i % 2 == 0)
      __stcs(to + i, __ldcs(from + i));
    else
      to[i] = i % 3 == 0 ? __ldcg(from + i) : __ldg(from + i);
}

__global__ void atomics(int* integers, float* sum, double* long_sum) {
  const int i = int(threadIdx.x);
  atomicAdd(integers, i);
  atomicMax(integers + 1, i);
  atomicMin(integers + 2, -i);
  atomicOr(integers + 3, 1 << i % 32);
  atomicCAS(integers + 4, i, i + 1);
  atomicInc(reinterpret_cast<unsigned*>(integers + 5), 6u);
  atomicExch(integers + 6, 7);
  atomicAdd(sum, 0.5f);
  atomicAdd(long_sum, 0.25);
}

// ---- numbers ---------------------------------------------------------------------------------

__global__ void halves(const unsigned short* from, unsigned count, float* to) {
  for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) {
    to[2 * i] = __half2float(__ushort_as_half(from[i]));
    to[2 * i + 1] = __bfloat162float(__ushort_as_bfloat16(from[i]));
  }
}

__global__ void to_halves(const float* from, unsigned count, unsigned short* to) {
  for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) {
    to[2 * i] = __half_as_ushort(__float2half_rn(from[i]));
    to[2 * i + 1] = __bfloat16_as_ushort(__float2bfloat16_rn(from[i]));
  }
}

__global__ void bits(const uint2* from, uint32_t* to) {
  const uint32_t x = from[threadIdx.x].x, y = from[threadIdx.x].y;
  const unsigned long long wide = static_cast<unsigned long long>(x) << 32 | y;
  uint32_t* row = to + 20 * threadIdx.x;
  *row++ = uint32_t(__popc(x));
  *row++ = uint32_t(__popcll(wide));
  *row++ = uint32_t(__clz(int(x)));
  *row++ = uint32_t(__clzll(static_cast<long long>(wide)));
  *row++ = uint32_t(__ffs(int(x)));
  *row++ = uint32_t(__ffsll(static_cast<long long>(wide)));
  *row++ = __brev(x);
  *row++ = __byte_perm(x, y, 0x3715);
  *row++ = __funnelshift_l(x, y, 37);
  *row++ = __funnelshift_r(x, y, 37);
  *row++ = __umulhi(x, y);
  *row++ = uint32_t(__mulhi(int(x), int(y)));
  *row++ = uint32_t(__umul64hi(wide, wide) >> 32);
  *row++ = min(x, y);
  *row++ = max(x, int(y));
  *row++ = uint32_t(min(int(x), int(y)));
  *row++ = umin(x, y);
  *row++ = umax(x, y);
  *row++ = uint32_t(__float_as_int(__int_as_float(int(x))));
  *row++ = uint32_t(__double_as_longlong(__longlong_as_double(static_cast<long long>(wide))));
}

__global__ void functions(const float2* from, float* to) {
  const float x = from[threadIdx.x].x, y = from[threadIdx.x].y;
  float* row = to + 20 * threadIdx.x;
  *row++ = exp2f(x);
  *row++ = log2f(x);
  *row++ = __expf(x);
  *row++ = __logf(x);
  *row++ = __fdividef(x, y);
  *row++ = rsqrtf(x);
  *row++ = __frcp_rn(x);
  *row++ = fmaxf(x, y);
  *row++ = fminf(x, y);
  *row++ = max(x, y);
  *row++ = min(x, y);
  *row++ = __saturatef(x);
  *row++ = __fmul_rn(x, y);
  *row++ = __fadd_rn(x, y);
  *row++ = fabsf(x);
  *row++ = __int2float_rn(__float2int_rn(x));
  *row++ = __int2float_rn(__float2int_rz(x));
  *row++ = __int2float_rn(__float2int_rd(x));
  *row++ = float(rsqrt(double(x)));
  *row++ = float(max(double(x), double(y)));
}

// ---- launches --------------------------------------------------------------------------------

__global__ void nothing(int*) {}

// What a launch with this grid, block and shared memory says.
int refusal(dim3 grid, dim3 threads, size_t shared) {
  const cudaError_t error = try_launch(grid, threads, shared, nothing, nullptr);
  if (error != cudaGetLastError()) return -1;
  return int(error);
}

void refusals() {
  const size_t most = size_t{227} << 10;
  printf("%d ", refusal(dim3(1), dim3(32), 0));
  printf("%d ", refusal(dim3(0), dim3(32), 0));
  printf("%d ", refusal(dim3(1, 65536), dim3(32), 0));
  printf("%d ", refusal(dim3(1), dim3(0), 0));
  printf("%d ", refusal(dim3(1), dim3(1025), 0));
  printf("%d ", refusal(dim3(1), dim3(32, 33), 0));
  printf("%d ", refusal(dim3(1), dim3(32), most));  // has not been asked for
  const auto attribute = cudaFuncAttributeMaxDynamicSharedMemorySize;
  printf("%d ", int(cudaFuncSetAttribute(nothing, attribute, int(most) + 1)));
  cudaGetLastError();
  printf("%d ", int(cudaFuncSetAttribute(nothing, attribute, int(most))));
  printf("%d ", refusal(dim3(1), dim3(32), most));
  printf("%d ", refusal(dim3(1), dim3(32), most + 1));
  int device = -1, optin = 0, blocks = 0;
  check(cudaGetDevice(&device));
  check(cudaDeviceGetAttribute(&optin, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, nothing, 32, 0));
  printf("%d %d\n", optin == int(most), blocks > 0);
}

template <typename T>
void run_shuffles() {
  const Numbers<T> from(read_all<T>());
  const Numbers<T> to(7 * from.size());
  launch(dim3(1), dim3(unsigned(from.size())), 0, shuffles<T>, from.data(), to.data());
  write_all(to);
}

template <typename Vector>
void run_copy() {
  const Numbers<Vector> from(read_all<Vector>());
  const Numbers<Vector> to(from.size());
  launch(dim3(1), dim3(48), 0, copy<Vector>, from.data(), to.data(), unsigned(from.size()));
  write_all(to);
}

}  // namespace

int main(int arguments, char** argument) {
  if (arguments < 2) return 2;
  const auto asked = [&](const char* name) { return strcmp(argument[1], name) == 0; };
  if (asked("reduce")) {
    const Numbers<float> from(read_all<float>());
    const unsigned blocks = unsigned(from.size() + 95) / 96;
    const Numbers<float> to(blocks);
    launch(dim3(blocks), dim3(96), 0, reduce, from.data(), int(from.size()), to.data());
    write_all(to);
  } else if (asked("reverse")) {
    const Numbers<int> from(read_all<int>());
    const Numbers<int> to(from.size());
    const unsigned threads = unsigned(atoi(argument[2])), blocks = unsigned(from.size()) / threads;
    launch(dim3(blocks), dim3(threads), threads * sizeof(int), reverse, from.data(), to.data(),
           atoi(argument[3]));
    write_all(to);
  } else if (asked("unwritten")) {
    const Numbers<uint32_t> to(2 * 40);
    launch(dim3(2), dim3(40), 40 * sizeof(uint32_t), unwritten, to.data());
    write_all(to);
  } else if (asked("indices")) {
    const Numbers<uint3> to(2 * 12 * 30);
    launch(dim3(2, 3, 2), dim3(5, 2, 3), 0, indices, to.data());
    write_all(to);
  } else if (asked("counts")) {
    const Numbers<int> to(std::vector<int>(4 * 45));
    launch(dim3(1), dim3(45), 0, counts, to.data());
    write_all(to);
  } else if (asked("tickets")) {
    const Numbers<unsigned> next(std::vector<unsigned>(1)), to(3 * 40);
    launch(dim3(3), dim3(40), 0, tickets, next.data(), to.data());
    write_all(to);
  } else if (asked("shuffles of int32")) {
    run_shuffles<int>();
  } else if (asked("shuffles of int64")) {
    run_shuffles<long long>();
  } else if (asked("shuffles of float32")) {
    run_shuffles<float>();
  } else if (asked("shuffles of float64")) {
    run_shuffles<double>();
  } else if (asked("votes")) {
    const Numbers<int> from(read_all<int>());
    const Numbers<unsigned> to(std::vector<unsigned>(6 * from.size()));
    launch(dim3(1), dim3(unsigned(from.size())), 0, votes, from.data(), to.data());
    write_all(to);
  } else if (asked("groups")) {
    const Numbers<int> from(read_all<int>());
    const Numbers<unsigned> to(std::vector<unsigned>(4 * from.size()));
    launch(dim3(1), dim3(unsigned(from.size())), 0, groups, from.data(), to.data());
    write_all(to);
  } else if (asked("copy of uint4")) {
    run_copy<uint4>();
  } else if (asked("copy of float2")) {
    run_copy<float2>();
  } else if (asked("copy of double2")) {
    run_copy<double2>();
  } else if (asked("atomics")) {
    const Numbers<int> integers(std::vector<int>(7));
    const Numbers<float> sum(std::vector<float>(1));
    const Numbers<double> long_sum(std::vector<double>(1));
    launch(dim3(1), dim3(40), 0, atomics, integers.data(), sum.data(), long_sum.data());
    for (const int number : integers.to_host()) printf("%d ", number);
    printf("%g %g\n", double(sum.to_host()[0]), long_sum.to_host()[0]);
  } else if (asked("halves")) {
    const Numbers<unsigned short> from(read_all<unsigned short>());
    const Numbers<float> to(2 * from.size());
    launch(dim3(4), dim3(64), 0, halves, from.data(), unsigned(from.size()), to.data());
    write_all(to);
  } else if (asked("to halves")) {
    const Numbers<float> from(read_all<float>());
    const Numbers<unsigned short> to(2 * from.size());
    launch(dim3(4), dim3(64), 0, to_halves, from.data(), unsigned(from.size()), to.data());
    write_all(to);
  } else if (asked("bits")) {
    const Numbers<uint2> from(read_all<uint2>());
    const Numbers<uint32_t> to(20 * from.size());
    launch(dim3(1), dim3(unsigned(from.size())), 0, bits, from.data(), to.data());
    write_all(to);
  } else if (asked("functions")) {
    const Numbers<float2> from(read_all<float2>());
    const Numbers<float> to(20 * from.size());
    launch(dim3(1), dim3(unsigned(from.size())), 0, functions, from.data(), to.data());
    write_all(to);
  } else if (asked("refusals")) {
    refusals();
  } else {
    return 2;
  }
  return 0;
}
