// Loads and stores with a cache's policy, which is not modelled, fences and atomics.
#pragma once

#include "vector_types.h"

#define JML_LOAD(name)                                                                \
  template <typename T>                                                               \
  inline std::enable_if_t<jml_cuda_loadable<T>::value, T> name(const T* from) {        \
    return *from;                                                                     \
  }
#define JML_STORE(name)                                                               \
  template <typename T>                                                               \
  inline std::enable_if_t<jml_cuda_loadable<T>::value> name(T* to, T value) {          \
    *to = value;                                                                      \
  }
JML_LOAD(__ldg)
JML_LOAD(__ldca)
JML_LOAD(__ldcg)
JML_LOAD(__ldcs)
JML_LOAD(__ldlu)
JML_LOAD(__ldcv)
JML_STORE(__stwb)
JML_STORE(__stcg)
JML_STORE(__stcs)
JML_STORE(__stwt)
#undef JML_LOAD
#undef JML_STORE

// Threads take turns: memory is always as the last one left it.
inline void __threadfence() {}
inline void __threadfence_block() {}

// Atomic, but without order, as in CUDA. Threads change turns elsewhere, so that a compare-and-swap
// succeeds at once; the builtins are for ThreadSanitizer.
namespace jml_cuda_emulation {

template <typename T, typename Function>
inline T change(T* address, Function function) {
  T old;
  __atomic_load(address, &old, __ATOMIC_RELAXED);
  T value = function(old);
  while (!__atomic_compare_exchange(address, &old, &value, false, __ATOMIC_RELAXED,
                                    __ATOMIC_RELAXED))
    value = function(old);
  return old;
}

}  // namespace jml_cuda_emulation

#define JML_ATOMIC(name, type, expression)                                                     \
  inline type name(type* address, type value) {                                                \
    return jml_cuda_emulation::change(address, [value](type old) -> type {                     \
      (void)old;                                                                               \
      return expression;                                                                       \
    });                                                                                        \
  }
#define JML_ATOMIC_INTEGER(type)                                                               \
  JML_ATOMIC(atomicAdd, type, old + value)                                                     \
  JML_ATOMIC(atomicExch, type, value)                                                          \
  JML_ATOMIC(atomicMin, type, old < value ? old : value)                                       \
  JML_ATOMIC(atomicMax, type, old > value ? old : value)                                       \
  JML_ATOMIC(atomicAnd, type, old & value)                                                     \
  JML_ATOMIC(atomicOr, type, old | value)                                                      \
  JML_ATOMIC(atomicXor, type, old ^ value)                                                     \
  inline type atomicCAS(type* address, type compare, type value) {                             \
    __atomic_compare_exchange(address, &compare, &value, false, __ATOMIC_RELAXED,              \
                              __ATOMIC_RELAXED);                                               \
    return compare;                                                                            \
  }
JML_ATOMIC_INTEGER(int)
JML_ATOMIC_INTEGER(unsigned int)
JML_ATOMIC_INTEGER(unsigned long long)
JML_ATOMIC(atomicAdd, float, old + value)
JML_ATOMIC(atomicAdd, double, old + value)
JML_ATOMIC(atomicExch, float, value)
JML_ATOMIC(atomicSub, int, old - value)
JML_ATOMIC(atomicSub, unsigned int, old - value)
JML_ATOMIC(atomicInc, unsigned int, old >= value ? 0 : old + 1)
JML_ATOMIC(atomicDec, unsigned int, old == 0 || old > value ? value : old - 1)
#undef JML_ATOMIC
#undef JML_ATOMIC_INTEGER
