// The kernels for avx2; the launcher calls them where the machine has it.
#if defined(__x86_64__)
// Standard headers first: what they define is compiled for any machine.
#include <immintrin.h>

#include <algorithm>
#include <climits>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,bmi,bmi2"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c,bmi,bmi2")
#endif
#define JML_ISA avx2
#define JML_VECTOR_BYTES 32
#include "kernel.h"
#include "lovasz/gaps.h"
#include "tally.h"
#include "upsample/kernel.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
