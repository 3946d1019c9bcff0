// The kernels for the compiler's own instruction set; the launcher calls them where the machine has
// no better.
// Standard headers first: what they define is compiled for any machine.
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
#include <vector>

#define JML_ISA baseline
#define JML_VECTOR_BYTES 16
#include "kernel.h"
#include "lovasz/gaps.h"
#include "tally.h"
#include "upsample/kernel.h"
