// What sanitizers are told: which stack execution is on, and which synchronisation CUDA promises.
// AddressSanitizer needs to know the stack; ThreadSanitizer takes each fiber for a thread. Without
// a sanitizer all of this is empty.
#pragma once

#include <cstddef>
#include <cstdlib>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
// The emulation's own books are kept by all fibers of one real thread: no race, though it looks
// like one. Functions marked so are not watched.
#define JML_UNWATCHED __attribute__((no_sanitize("thread")))
#else
#define JML_UNWATCHED
#endif

namespace jml_cuda_emulation {

// What a sanitizer knows about a stack.
struct WatchedStack {
  const void* bottom = nullptr;
  size_t size = 0;
  void* frames = nullptr;  // AddressSanitizer's, while execution is elsewhere
  void* thread = nullptr;  // ThreadSanitizer's

  JML_UNWATCHED void created() {
#if defined(__SANITIZE_THREAD__)
    thread = __tsan_create_fiber(0);
#endif
  }
  // The stack that execution is on already: the real thread's.
  JML_UNWATCHED void adopted() {
#if defined(__SANITIZE_THREAD__)
    thread = __tsan_get_current_fiber();
#endif
  }
};

JML_UNWATCHED inline void before_switch(WatchedStack& from, const WatchedStack& to) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&from.frames, to.bottom, to.size);
#endif
#if defined(__SANITIZE_THREAD__)
  // That one fiber runs after another orders nothing: on a GPU they run at once.
  __tsan_switch_to_fiber(to.thread, __tsan_switch_to_fiber_no_sync);
#endif
  (void)from, (void)to;
}

// Execution is on `to` now; where it was is learnt for the way back.
JML_UNWATCHED inline void after_switch(WatchedStack& from, const WatchedStack& to) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(to.frames, &from.bottom, &from.size);
#endif
  (void)from, (void)to;
}

// Orders memory between threads that meet: what each did before leave() comes before what the
// others do after join(). One object for each meeting, at an address without history: a thread
// that is ahead would else seem to be in order with one that has yet to leave the last meeting.
class Order {
 public:
  JML_UNWATCHED void open() {
#if defined(__SANITIZE_THREAD__)
    address_ = malloc(1);
#endif
  }
  JML_UNWATCHED void leave() const {
#if defined(__SANITIZE_THREAD__)
    __tsan_release(address_);
#endif
  }
  JML_UNWATCHED void join() const {
#if defined(__SANITIZE_THREAD__)
    __tsan_acquire(address_);
#endif
  }
  // By one that has joined, when all have.
  JML_UNWATCHED void close() const {
#if defined(__SANITIZE_THREAD__)
    free(address_);
#endif
  }

 private:
#if defined(__SANITIZE_THREAD__)
  void* address_ = nullptr;
#endif
};

}  // namespace jml_cuda_emulation
