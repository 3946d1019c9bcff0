// __syncthreads and what the lanes of a warp do together.
#pragma once

#include <cstring>

#include "block.h"

namespace jml_cuda_emulation {

template <typename T>
constexpr bool kShuffles =
    std::is_same_v<T, int> || std::is_same_v<T, unsigned> || std::is_same_v<T, long> ||
    std::is_same_v<T, unsigned long> || std::is_same_v<T, long long> ||
    std::is_same_v<T, unsigned long long> || std::is_same_v<T, float> || std::is_same_v<T, double>;

template <typename T>
inline T shuffle(uint32_t mask, T value, int source, Place place) {
  static_assert(kShuffles<T>, "CUDA shuffles 32-bit and 64-bit numbers");
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof(T));
  bits = block.exchange(Exchange::kShuffle, mask, bits, source, place);
  memcpy(&value, &bits, sizeof(T));
  return value;
}

inline unsigned vote(Exchange kind, uint32_t mask, int predicate, Place place) {
  return unsigned(block.exchange(kind, mask, predicate != 0, 0, place));
}

inline int this_lane() { return int(current->number % kWarp); }

}  // namespace jml_cuda_emulation

inline void __syncthreads(JML_PLACE) {
  jml_cuda_emulation::block.barrier(false, {file, line});
}
inline int __syncthreads_count(int predicate, JML_PLACE) {
  return int(jml_cuda_emulation::block.barrier(predicate != 0, {file, line}));
}
inline int __syncthreads_or(int predicate, JML_PLACE) {
  return jml_cuda_emulation::block.barrier(predicate != 0, {file, line}) != 0;
}
inline int __syncthreads_and(int predicate, JML_PLACE) {
  return jml_cuda_emulation::block.barrier(predicate == 0, {file, line}) == 0;
}

inline void __syncwarp(unsigned mask = ~0u, JML_PLACE) {
  jml_cuda_emulation::vote(jml_cuda_emulation::Exchange::kSync, mask, 0, {file, line});
}
inline unsigned __ballot_sync(unsigned mask, int predicate, JML_PLACE) {
  using jml_cuda_emulation::Exchange;
  return jml_cuda_emulation::vote(Exchange::kBallot, mask, predicate, {file, line});
}
inline int __any_sync(unsigned mask, int predicate, JML_PLACE) {
  using jml_cuda_emulation::Exchange;
  return int(jml_cuda_emulation::vote(Exchange::kAny, mask, predicate, {file, line}));
}
inline int __all_sync(unsigned mask, int predicate, JML_PLACE) {
  using jml_cuda_emulation::Exchange;
  return int(jml_cuda_emulation::vote(Exchange::kAll, mask, predicate, {file, line}));
}

// The lanes that bring the same number, and the sum of all numbers.
template <typename T>
inline unsigned __match_any_sync(unsigned mask, T value, JML_PLACE) {
  static_assert(jml_cuda_emulation::kShuffles<T>, "CUDA matches 32-bit and 64-bit numbers");
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof(T));
  using jml_cuda_emulation::Exchange;
  return unsigned(
      jml_cuda_emulation::block.exchange(Exchange::kMatch, mask, bits, 0, {file, line}));
}
inline unsigned __reduce_add_sync(unsigned mask, unsigned value, JML_PLACE) {
  using jml_cuda_emulation::Exchange;
  return unsigned(
      jml_cuda_emulation::block.exchange(Exchange::kSum, mask, value, 0, {file, line}));
}

// `width` lanes are a section; for one beyond its own a lane reads itself.
template <typename T>
inline T __shfl_sync(unsigned mask, T value, int source, int width = 32, JML_PLACE) {
  const int first = jml_cuda_emulation::this_lane() & -width;
  return jml_cuda_emulation::shuffle(mask, value, first | (source & (width - 1)), {file, line});
}
template <typename T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, JML_PLACE) {
  const int lane = jml_cuda_emulation::this_lane();
  const bool inside = delta <= unsigned(lane & (width - 1));
  return jml_cuda_emulation::shuffle(mask, value, inside ? lane - int(delta) : lane, {file, line});
}
template <typename T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, JML_PLACE) {
  const int lane = jml_cuda_emulation::this_lane();
  const bool inside = delta < unsigned(width - (lane & (width - 1)));
  return jml_cuda_emulation::shuffle(mask, value, inside ? lane + int(delta) : lane, {file, line});
}
template <typename T>
inline T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, JML_PLACE) {
  const int lane = jml_cuda_emulation::this_lane(), other = (lane ^ bits) & 31;
  const bool inside = other <= (lane | (width - 1));
  return jml_cuda_emulation::shuffle(mask, value, inside ? other : lane, {file, line});
}
