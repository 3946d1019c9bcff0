// What the kernels take from CUDA beyond the language: shared memory, asynchronous copies, fast
// exponentials. Each primitive has a plain twin, which the tests run on the host
// (tests/cuda_emulation).
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

// All functions are inlined: to call one, its caller would have to move its registers to memory.
#define JML_DEVICE __device__ __forceinline__

namespace jml::cuda {

constexpr int kLanes = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

// The block's dynamic shared memory, aligned to 16 bytes.
JML_DEVICE unsigned char* shared_memory() {
#if defined(JML_CUDA_EMULATION)
  return jml_cuda_emulation::shared_memory();
#else
  extern __shared__ __align__(16) unsigned char memory[];
  return memory;
#endif
}

// Copies 16 aligned bytes from global to shared memory without a register between. The thread sees
// them once it has waited, and other threads after a barrier too.
JML_DEVICE void copy_async16(void* shared, const void* global) {
#if defined(__CUDA_ARCH__)
  const auto to = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(global) : "memory");
#else
  *static_cast<uint4*>(shared) = *static_cast<const uint4*>(global);
#endif
}

// Waits for the thread's copies.
JML_DEVICE void wait_copies() {
#if defined(__CUDA_ARCH__)
  asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}

// Store 16 and 8 bytes with one instruction each. The compiler would take a store apart that stands
// under a condition.
JML_DEVICE void store_words(void* global, uint4 words) {
#if defined(__CUDA_ARCH__)
  asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(global), "r"(words.x),
               "r"(words.y), "r"(words.z), "r"(words.w)
               : "memory");
#else
  *static_cast<uint4*>(global) = words;
#endif
}
JML_DEVICE void store_words(void* global, uint2 words) {
#if defined(__CUDA_ARCH__)
  asm volatile("st.global.v2.u32 [%0], {%1, %2};" ::"l"(global), "r"(words.x), "r"(words.y)
               : "memory");
#else
  *static_cast<uint2*>(global) = words;
#endif
}

// 2^x with a relative error of 2^-22: one instruction of the special function unit. -inf gives 0, and
// NaN stays NaN.
JML_DEVICE float exp2_fast(float x) {
#if defined(__CUDA_ARCH__)
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
  return power;
#else
  return exp2f(x);
#endif
}

// e^x with a relative error of 2^-22 + |x| 2^-24. It takes one multiplication more.
JML_DEVICE float exp_fast(float x) { return exp2_fast(x * 1.44269504f); }
JML_DEVICE double exp_fast(double x) { return exp(x); }

// 1 / x, right to the last bit or the one before it. A true division would call a function for rare
// numbers.
JML_DEVICE float reciprocal(float x) {
#if defined(__CUDA_ARCH__)
  float result;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
#else
  return 1 / x;
#endif
}
JML_DEVICE double reciprocal(double x) { return 1 / x; }

}  // namespace jml::cuda
