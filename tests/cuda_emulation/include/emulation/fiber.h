// Fibers: stacks that execution leaves and comes back to, without the operating system. A switch
// saves what a called function has to keep, some nanoseconds; ucontext, which saves the signals'
// mask by two system calls as well, takes over where there is no assembly for the processor.
#pragma once

#include <sys/mman.h>

#include <cstdint>

#include "report.h"
#include "sanitizers.h"

#if !defined(__x86_64__)
#define JML_CUDA_EMULATION_UCONTEXT
#endif
#if defined(JML_CUDA_EMULATION_UCONTEXT)
#include <ucontext.h>
#endif

namespace jml_cuda_emulation {

// Pages are taken when touched: most of this costs addresses only. A sanitizer's frames are large.
constexpr size_t kStackBytes = size_t{256} << 10;
constexpr size_t kPageBytes = 4096;

struct Fiber {
#if defined(JML_CUDA_EMULATION_UCONTEXT)
  ucontext_t context;
#else
  void* stack_pointer;
#endif
  WatchedStack watched;
};

// The fiber that ran before the running one.
inline Fiber* last_fiber = nullptr;

#if !defined(JML_CUDA_EMULATION_UCONTEXT)
// noipa: the compiler must not conclude from the body which registers a call leaves alone.
__attribute__((naked, noipa)) inline void switch_stack(void** /*from*/, void* /*to*/) {
  asm("pushq %rbp\n\t"
      "pushq %rbx\n\t"
      "pushq %r12\n\t"
      "pushq %r13\n\t"
      "pushq %r14\n\t"
      "pushq %r15\n\t"
      "movq %rsp, (%rdi)\n\t"
      "movq %rsi, %rsp\n\t"
      "popq %r15\n\t"
      "popq %r14\n\t"
      "popq %r13\n\t"
      "popq %r12\n\t"
      "popq %rbx\n\t"
      "popq %rbp\n\t"
      "ret");
}
#endif

// Returns when somebody switches back to `from`.
JML_UNWATCHED inline void switch_fiber(Fiber& from, Fiber& to) {
  last_fiber = &from;
  before_switch(from.watched, to.watched);
#if defined(JML_CUDA_EMULATION_UCONTEXT)
  swapcontext(&from.context, &to.context);
#else
  switch_stack(&from.stack_pointer, to.stack_pointer);
#endif
  after_switch(last_fiber->watched, from.watched);
}

// Prepares a fiber to run entry(), which never returns and first calls after_switch. The stack
// stays for the life of the process. `number` shifts its top: at equal distances the stacks of a
// block would fall into the same few lines of a cache.
JML_UNWATCHED inline void create_fiber(Fiber& fiber, unsigned number, void (*entry)()) {
  void* memory = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) fail("no memory for the stack of a thread");
  auto* bottom = static_cast<unsigned char*>(memory);
  mprotect(bottom, kPageBytes, PROT_NONE);  // a stack that overflows faults
  const size_t size = kStackBytes - kPageBytes - number % 61 * 320;
  fiber.watched.bottom = bottom + kPageBytes;
  fiber.watched.size = size;
  fiber.watched.created();
#if defined(JML_CUDA_EMULATION_UCONTEXT)
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = bottom + kPageBytes;
  fiber.context.uc_stack.ss_size = size;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, entry, 0);
#else
  // As if entry had been called, from nowhere, and had saved six registers.
  auto* top = reinterpret_cast<uint64_t*>(bottom + kPageBytes + size);
  for (int i = 1; i <= 8; ++i) top[-i] = 0;
  top[-2] = reinterpret_cast<uint64_t>(entry);
  fiber.stack_pointer = top - 8;
#endif
}

}  // namespace jml_cuda_emulation
