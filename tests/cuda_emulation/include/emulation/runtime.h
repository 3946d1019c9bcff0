// The host's side: devices, memory, and the launch of a grid.
#pragma once

#include <map>
#include <mutex>
#include <new>
#include <tuple>

#include "block.h"

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorInvalidDevice = 101,
  cudaErrorNotSupported = 801,
};

enum cudaDeviceAttr {
  cudaDevAttrMaxThreadsPerBlock = 1,
  cudaDevAttrMaxSharedMemoryPerBlock = 8,
  cudaDevAttrWarpSize = 10,
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrMaxThreadsPerMultiProcessor = 39,
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrComputeCapabilityMinor = 76,
  cudaDevAttrMaxSharedMemoryPerMultiprocessor = 81,
  cudaDevAttrMaxSharedMemoryPerBlockOptin = 97,
};

enum cudaFuncAttribute {
  cudaFuncAttributeMaxDynamicSharedMemorySize = 8,
  cudaFuncAttributePreferredSharedMemoryCarveout = 9,
};

enum cudaMemcpyKind {
  cudaMemcpyHostToHost = 0,
  cudaMemcpyHostToDevice = 1,
  cudaMemcpyDeviceToHost = 2,
  cudaMemcpyDeviceToDevice = 3,
  cudaMemcpyDefault = 4,
};

struct CUstream_st;
using cudaStream_t = CUstream_st*;

enum cudaLaunchAttributeID {
  cudaLaunchAttributeClusterDimension = 4,
  cudaLaunchAttributeProgrammaticStreamSerialization = 6,
};
union cudaLaunchAttributeValue {
  char pad[64];
  struct {
    unsigned int x, y, z;
  } clusterDim;
  int programmaticStreamSerializationAllowed;
};
struct cudaLaunchAttribute {
  cudaLaunchAttributeID id;
  cudaLaunchAttributeValue val;
};
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
  cudaLaunchAttribute* attrs;
  unsigned int numAttrs;
};

namespace jml_cuda_emulation {

// A small GPU, so that a grid of a few blocks has more of them than run at once.
constexpr int kMultiprocessors = 3;
constexpr size_t kSharedBytes = size_t{48} << 10, kSharedBytesOptin = size_t{227} << 10;

inline thread_local cudaError_t last_error = cudaSuccess;  // as in CUDA, a host thread's own
inline cudaError_t remember(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

// One grid at a time, in whichever host thread it is launched.
inline std::mutex launch_mutex;
inline thread_local bool launching = false;
inline std::map<const void*, size_t> dynamic_limits;  // of kernels that ask for more

inline cudaError_t check(const cudaLaunchConfig_t& config, const void* kernel) {
  const dim3 grid = config.gridDim, threads = config.blockDim;
  if (grid.x - 1 >= 0x7fffffff || grid.y - 1 >= 0xffff || grid.z - 1 >= 0xffff)
    return cudaErrorInvalidConfiguration;
  if (threads.x - 1 >= 1024 || threads.y - 1 >= 1024 || threads.z - 1 >= 64 ||
      uint64_t{threads.x} * threads.y * threads.z > kMaxThreads)
    return cudaErrorInvalidConfiguration;
  const auto limit = dynamic_limits.find(kernel);
  if (config.dynamicSmemBytes > (limit == dynamic_limits.end() ? kSharedBytes : limit->second))
    return cudaErrorInvalidValue;
  for (unsigned i = 0; i < config.numAttrs; ++i)
    if (config.attrs[i].id != cudaLaunchAttributeProgrammaticStreamSerialization)
      return cudaErrorNotSupported;
  return cudaSuccess;
}

// Memory of exactly this size, so that AddressSanitizer knows its end, and poisoned.
inline void* allocate(size_t bytes) {
  void* memory = ::operator new(bytes, std::align_val_t{16});
  memset(memory, 0xff, bytes);
  return memory;
}
inline void release(void* memory) { ::operator delete(memory, std::align_val_t{16}); }

inline cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel, Call call) {
  if (launching) fail("a kernel is launched within a kernel");
  const std::lock_guard<std::mutex> lock(launch_mutex);
  const cudaError_t error = check(config, kernel);
  if (error != cudaSuccess) return error;
  grid_dimensions = config.gridDim;
  block_dimensions = config.blockDim;
  launching = true;
  const dim3 grid = grid_dimensions, threads = block_dimensions;
  Turns turns;
  turns.choose();
  const uint64_t blocks = uint64_t{grid.x} * grid.y * grid.z;
  auto* order = new uint64_t[blocks];
  for (uint64_t i = 0; i < blocks; ++i) order[i] = i;
  turns.arrange(order, blocks);
  for (uint64_t i = 0; i < blocks; ++i) {
    const uint64_t b = order[i];
    block_index = {unsigned(b % grid.x), unsigned(b / grid.x % grid.y),
                   unsigned(b / grid.x / grid.y)};
    block.shared = static_cast<unsigned char*>(allocate(config.dynamicSmemBytes));
    block.run(threads.x * threads.y * threads.z, call, turns);
    release(block.shared);
  }
  block.shared = nullptr;
  delete[] order;
  launching = false;
  return cudaSuccess;
}

}  // namespace jml_cuda_emulation

// How many kernels were launched, for whoever loads the library.
inline long jml_cuda_emulation_launch_count = 0;
extern "C" __attribute__((used, visibility("default"))) inline long jml_cuda_emulation_launches() {
  return jml_cuda_emulation_launch_count;
}

// Whoever loads the library may answer for the GPU, and run or count its machine code in place of
// the emulation (benchmarks/sass). `launch` gets a kernel's one argument as bytes, and returns whether
// it has run it.
struct JmlCudaEmulationAnswers {
  int multiprocessors;
  int (*blocks_at_a_time)(const void* kernel, int threads, size_t shared);
  bool (*launch)(const void* kernel, unsigned blocks, unsigned threads, size_t shared,
                 const void* argument, size_t bytes);
};
inline const JmlCudaEmulationAnswers* jml_cuda_emulation_answers = nullptr;
extern "C" __attribute__((used, visibility("default"))) inline void jml_cuda_emulation_ask(
    const JmlCudaEmulationAnswers* answers) {
  jml_cuda_emulation_answers = answers;
}

template <typename... Parameters, typename... Arguments>
inline cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config,
                                      void (*kernel)(Parameters...), Arguments&&... arguments) {
  ++jml_cuda_emulation_launch_count;
  if constexpr (sizeof...(Parameters) == 1)
    if (jml_cuda_emulation_answers) {
      const std::tuple<Parameters...> argument(arguments...);
      const bool has_run = jml_cuda_emulation_answers->launch(
          reinterpret_cast<const void*>(kernel), config->gridDim.x, config->blockDim.x,
          config->dynamicSmemBytes, &std::get<0>(argument), sizeof(std::get<0>(argument)));
      return has_run ? cudaSuccess : cudaErrorInvalidValue;
    }
  // Each thread gets the arguments by value.
  using Bound = std::pair<void (*)(Parameters...), std::tuple<Parameters...>>;
  const Bound bound(kernel, std::tuple<Parameters...>(std::forward<Arguments>(arguments)...));
  const auto run = [](const void* call) {
    const auto& [function, values] = *static_cast<const Bound*>(call);
    std::apply(function, values);
  };
  return jml_cuda_emulation::remember(jml_cuda_emulation::launch(
      *config, reinterpret_cast<const void*>(kernel), {run, &bound}));
}

// ---- queries -------------------------------------------------------------------------------
inline const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess: return "no error";
    case cudaErrorInvalidValue: return "invalid argument";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorInvalidConfiguration: return "invalid configuration argument";
    case cudaErrorInvalidDevice: return "invalid device ordinal";
    case cudaErrorNotSupported: return "operation not supported";
  }
  return "unrecognized error code";
}
inline cudaError_t cudaPeekAtLastError() { return jml_cuda_emulation::last_error; }
inline cudaError_t cudaGetLastError() {
  return std::exchange(jml_cuda_emulation::last_error, cudaSuccess);
}
inline cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
inline cudaError_t cudaSetDevice(int device) {
  return jml_cuda_emulation::remember(device == 0 ? cudaSuccess : cudaErrorInvalidDevice);
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  using namespace jml_cuda_emulation;
  if (device != 0) return remember(cudaErrorInvalidDevice);
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock: return *value = kMaxThreads, cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlock: return *value = int(kSharedBytes), cudaSuccess;
    case cudaDevAttrWarpSize: return *value = kWarp, cudaSuccess;
    case cudaDevAttrMultiProcessorCount:
      *value = jml_cuda_emulation_answers ? jml_cuda_emulation_answers->multiprocessors
                                          : kMultiprocessors;
      return cudaSuccess;
    case cudaDevAttrMaxThreadsPerMultiProcessor: return *value = 2048, cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor: return *value = 9, cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor: return *value = 0, cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor: return *value = 228 << 10, cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      return *value = int(kSharedBytesOptin), cudaSuccess;
  }
  return remember(cudaErrorInvalidValue);
}
template <typename... Parameters>
inline cudaError_t cudaFuncSetAttribute(void (*kernel)(Parameters...), cudaFuncAttribute attribute,
                                        int value) {
  using namespace jml_cuda_emulation;
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
  if (value < 0 || size_t(value) > kSharedBytesOptin) return remember(cudaErrorInvalidValue);
  const std::lock_guard<std::mutex> lock(launch_mutex);
  dynamic_limits[reinterpret_cast<const void*>(kernel)] = size_t(value);
  return cudaSuccess;
}
template <typename... Parameters>
inline cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks,
                                                                 void (*kernel)(Parameters...),
                                                                 int threads, size_t shared) {
  *blocks = jml_cuda_emulation_answers
                ? jml_cuda_emulation_answers->blocks_at_a_time(
                      reinterpret_cast<const void*>(kernel), threads, shared)
                : 2;
  return cudaSuccess;
}

// ---- memory and streams: everything is done at once ----------------------------------------
template <typename T>
inline cudaError_t cudaMalloc(T** memory, size_t bytes) {
  *memory = static_cast<T*>(jml_cuda_emulation::allocate(bytes));
  return cudaSuccess;
}
inline cudaError_t cudaFree(void* memory) {
  jml_cuda_emulation::release(memory);
  return cudaSuccess;
}
inline cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind) {
  memmove(to, from, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                                   cudaStream_t = nullptr) {
  return cudaMemcpy(to, from, bytes, kind);
}
inline cudaError_t cudaMemset(void* to, int value, size_t bytes) {
  memset(to, value, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t = nullptr) {
  return cudaMemset(to, value, bytes);
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }

// A kernel's start before its predecessor's end: here nothing overlaps.
inline void cudaGridDependencySynchronize() {}
inline void cudaTriggerProgrammaticLaunchCompletion() {}
