// What the self-tests' programs share: numbers on the device, launches, shared memory. Real CUDA
// compiles it as well.
#pragma once

#include <cuda_runtime.h>

#include <cstdio>
#include <cstdlib>
#include <vector>

// Dynamic shared memory, as the kernels get it.
__device__ __forceinline__ unsigned char* shared_memory() {
#if defined(JML_CUDA_EMULATION)
  return jml_cuda_emulation::shared_memory();
#else
  extern __shared__ __align__(16) unsigned char memory[];
  return memory;
#endif
}

inline void check(cudaError_t error) {
  if (error == cudaSuccess) return;
  fprintf(stderr, "%s\n", cudaGetErrorString(error));
  exit(1);
}

template <typename T>
class Numbers {
 public:
  explicit Numbers(size_t count) : count_(count) { check(cudaMalloc(&data_, bytes())); }
  explicit Numbers(const std::vector<T>& from) : Numbers(from.size()) {
    check(cudaMemcpy(data_, from.data(), bytes(), cudaMemcpyHostToDevice));
  }
  Numbers(const Numbers&) = delete;
  ~Numbers() { cudaFree(data_); }

  T* data() const { return data_; }
  size_t size() const { return count_; }

  std::vector<T> to_host() const {
    std::vector<T> to(count_);
    check(cudaMemcpy(to.data(), data_, bytes(), cudaMemcpyDeviceToHost));
    return to;
  }

 private:
  size_t bytes() const { return count_ * sizeof(T); }

  T* data_ = nullptr;
  size_t count_;
};

template <typename... Parameters, typename... Arguments>
cudaError_t try_launch(dim3 grid, dim3 threads, size_t shared, void (*kernel)(Parameters...),
                       Arguments... arguments) {
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = threads;
  config.dynamicSmemBytes = shared;
  return cudaLaunchKernelEx(&config, kernel, Parameters(arguments)...);
}

template <typename... Parameters, typename... Arguments>
void launch(dim3 grid, dim3 threads, size_t shared, void (*kernel)(Parameters...),
            Arguments... arguments) {
  check(try_launch(grid, threads, shared, kernel, arguments...));
  check(cudaDeviceSynchronize());
}

// All of standard input, and to standard output.
template <typename T>
std::vector<T> read_all() {
  std::vector<T> numbers(1);
  size_t count = 0;
  while (fread(&numbers[count], sizeof(T), 1, stdin) == 1)
    if (++count == numbers.size()) numbers.resize(2 * count);
  numbers.resize(count);
  return numbers;
}

template <typename T>
void write_all(const Numbers<T>& numbers) {
  const std::vector<T> host = numbers.to_host();
  fwrite(host.data(), sizeof(T), host.size(), stdout);
}
