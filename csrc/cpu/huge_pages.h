// Huge pages for a fresh gradient.
//
// The system hands out memory when it is first written, page by page. With pages of 4 KiB this
// takes about as long as the kernels of a whole training step; with huge pages of 2 MiB it happens
// once where it happened 512 times. Many systems give huge pages only to memory for which a
// program asks, and neither the C library nor PyTorch asks unless it is told to.
//
// What this does to the rest of the process:
// - No more memory is resident: only the huge pages that lie wholly inside the gradient are asked
//   for, and all of the gradient is written.
// - Nothing takes the request back when the gradient is freed. Where the allocator unmaps the
//   memory, as glibc does above 32 MiB, the request is gone with it. Memory that the allocator
//   keeps is as resident as before; the next gradient there finds its huge pages ready, and to ask
//   again does nothing. Only if kept memory is emptied without being unmapped (malloc_trim) may a
//   small tensor there hold a whole huge page later on. Together these hold no more than the
//   gradient did.
// - Where no huge page is free, the system gives small ones. It may try to make a huge one first,
//   by moving or reclaiming other memory, and such a step is slow; the file "defrag" beside the
//   one below says whether it does. The huge pages of a step are free again after it, so that as a
//   rule the next step does not pay once more.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__linux__)
#include <sys/mman.h>

#include <fstream>
#include <string>
#endif

namespace jml {

#if defined(__linux__)

// Where huge pages are larger than this, the kernel takes those of them that fit.
constexpr uintptr_t kHugePageBytes = 2 * 1024 * 1024;
// It contains a huge page wherever it begins, and smaller gradients have few pages anyway.
constexpr size_t kLeastBytesToAskFor = 2 * kHugePageBytes;

// Whether the system gives huge pages to those who ask. Its file says "always [madvise] never" with
// the chosen one in brackets; it is missing where the kernel has no huge pages.
inline bool huge_pages_are_given() {
  static const bool given = [] {
    std::ifstream file("/sys/kernel/mm/transparent_hugepage/enabled");
    std::string choices;
    std::getline(file, choices);
    return choices.find("[madvise]") != std::string::npos ||
           choices.find("[always]") != std::string::npos;
  }();
  return given;
}

// Asks for huge pages inside fresh memory that is about to be written as a whole. A refusal is
// no error: the pages are small ones then.
inline void ask_for_huge_pages(void* memory, size_t bytes) {
  if (bytes < kLeastBytesToAskFor || !huge_pages_are_given()) return;
  const uintptr_t start = reinterpret_cast<uintptr_t>(memory);
  const uintptr_t begin = (start + kHugePageBytes - 1) / kHugePageBytes * kHugePageBytes;
  const uintptr_t end = (start + bytes) / kHugePageBytes * kHugePageBytes;
  madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
}

#else

inline void ask_for_huge_pages(void*, size_t) {}

#endif

}  // namespace jml
