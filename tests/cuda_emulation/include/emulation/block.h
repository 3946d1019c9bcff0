// The threads of the one block that runs at a time: fibers that take turns, each running until it
// waits for others. What they wait for are the block's barrier and exchanges within a warp.
#pragma once

#include "threads.h"
#include "turns.h"

namespace jml_cuda_emulation {

// What a kernel is called by: the types of its arguments are known to the launch alone.
struct Call {
  void (*run)(const void*);
  const void* arguments;
};

inline Thread* current = nullptr;
inline int warp_size = kWarp;
inline uint3 block_index;
inline dim3 block_dimensions, grid_dimensions;

class Block {
 public:
  unsigned char* shared = nullptr;  // dynamic shared memory

  // Runs the block's threads to their end.
  JML_UNWATCHED void run(unsigned count, Call call, Turns& turns) {
    call_ = call;
    turns_ = &turns;
    count_ = live_ = count;
    head_ = ready_ = arrived_ = 0;
    host_.watched.adopted();
    start_.open(), end_.open(), barrier_.open();
    start_.leave();
    for (unsigned i = 0; i < count; ++i) leaving_[i] = make_thread(i);
    for (unsigned w = 0; w * kWarp < count; ++w) {
      const unsigned lanes = count - w * kWarp;
      warps_[w].live = lanes >= kWarp ? ~0u : (1u << lanes) - 1;
      warps_[w].meetings = 0;
    }
    wake(count);
    current = take();
    switch_fiber(host_, current->fiber);
    current = nullptr;
    end_.join();
    start_.close(), end_.close(), barrier_.close();
  }

  // Waits for all live threads; how many of them say yes.
  JML_UNWATCHED unsigned barrier(bool yes, Place place) {
    if (arrived_ == 0) {
      place_ = place;
    } else if (!(place == place_)) {
      fail("block (%u, %u, %u): threads meet at different barriers: %u at %s:%d, another at %s:%d",
           block_index.x, block_index.y, block_index.z, arrived_, place_.file, place_.line,
           place.file, place.line);
    }
    ++arrived_;
    yes_ += yes;
    barrier_.leave();
    current->order = barrier_;
    wait(State::kAtBarrier, place);
    current->order.join();
    if (current->last) current->order.close();
    return result_;
  }

  // Waits for all live lanes of the mask; what the kind of exchange gives this lane.
  JML_UNWATCHED uint64_t exchange(Exchange kind, uint32_t mask, uint64_t value, int source,
                                  Place place) {
    const unsigned lane = current->number % kWarp;
    Warp& warp = warps_[current->number / kWarp];
    if (!(mask >> lane & 1))
      fail("block (%u, %u, %u): lane %u calls %s with mask %08x, which it is not in, at %s:%d",
           block_index.x, block_index.y, block_index.z, lane, name(kind), mask, place.file,
           place.line);
    Meeting& meeting = find(warp, mask, kind, place);
    meeting.arrived |= 1u << lane;
    current->value = value;
    current->source = source;
    current->order = meeting.order;
    if (orders(kind)) current->order.leave();
    wait(State::kInExchange, place);
    if (orders(kind)) {
      current->order.join();
      if (current->last) current->order.close();
    }
    return current->result;
  }

 private:
  JML_UNWATCHED Thread* make_thread(unsigned number) {
    if (number == made_) {
      create_fiber(threads_[number].fiber, number, live_forever);
      ++made_;
    }
    Thread& thread = threads_[number];
    const unsigned x = block_dimensions.x, y = block_dimensions.y;
    thread.index = {number % x, number / x % y, number / x / y};
    thread.number = number;
    return &thread;
  }

  // A fiber's life: one thread of each block after another.
  JML_UNWATCHED static void live_forever();

  JML_UNWATCHED void finish() {
    Warp& warp = warps_[current->number / kWarp];
    warp.live &= ~(1u << current->number % kWarp);
    current->state = State::kDone;
    if (--live_ == 0) return switch_fiber(current->fiber, host_);
    // Those who wait need wait for this one no more.
    if (arrived_ == live_) release_barrier();
    for (unsigned i = warp.meetings; i-- > 0;) release_if_complete(warp, i);
    turn_over();
  }

  JML_UNWATCHED Meeting& find(Warp& warp, uint32_t mask, Exchange kind, Place place) {
    for (unsigned i = 0; i < warp.meetings; ++i) {
      Meeting& meeting = warp.meeting[i];
      if (meeting.mask != mask) continue;
      if (meeting.kind != kind)
        fail("block (%u, %u, %u): lanes of one mask, %08x, meet in %s and %s at %s:%d",
             block_index.x, block_index.y, block_index.z, mask, name(meeting.kind), name(kind),
             place.file, place.line);
      return meeting;
    }
    Meeting& meeting = warp.meeting[warp.meetings++];
    meeting.mask = mask;
    meeting.arrived = 0;
    meeting.kind = kind;
    if (orders(kind)) meeting.order.open();
    return meeting;
  }

  JML_UNWATCHED void wait(State state, Place place) {
    current->state = state;
    current->place = place;
    if (state == State::kAtBarrier) {
      if (arrived_ == live_) release_barrier();
    } else {
      Warp& warp = warps_[current->number / kWarp];
      for (unsigned i = warp.meetings; i-- > 0;) release_if_complete(warp, i);
    }
    turn_over();
  }

  JML_UNWATCHED void release_barrier() {
    unsigned count = 0;
    for (unsigned i = 0; i < count_; ++i)
      if (threads_[i].state == State::kAtBarrier) leaving_[count++] = &threads_[i];
    result_ = yes_;
    arrived_ = yes_ = 0;
    barrier_.open();  // the next one; those who leave this one hold on to it
    wake(count);
  }

  JML_UNWATCHED void release_if_complete(Warp& warp, unsigned i) {
    const Meeting meeting = warp.meeting[i];
    if (meeting.arrived != (meeting.mask & warp.live)) return;
    warp.meeting[i] = warp.meeting[--warp.meetings];
    Thread* lanes = threads_ + (&warp - warps_) * kWarp;
    unsigned count = 0;
    uint64_t ballot = 0, sum = 0;
    for (uint32_t rest = meeting.arrived; rest != 0; rest &= rest - 1) {
      const int lane = __builtin_ctz(rest);
      leaving_[count++] = &lanes[lane];
      ballot |= uint64_t{lanes[lane].value != 0} << lane;
      sum += lanes[lane].value;
    }
    for (unsigned k = 0; k < count; ++k) {
      Thread& thread = *leaving_[k];
      switch (meeting.kind) {
        case Exchange::kSync: break;
        case Exchange::kShuffle:
          // CUDA leaves open what a lane gives that does not take part.
          thread.result = meeting.arrived >> thread.source & 1 ? lanes[thread.source].value
                                                               : kPoison;
          break;
        case Exchange::kBallot: thread.result = ballot; break;
        case Exchange::kAny: thread.result = ballot != 0; break;
        case Exchange::kAll: thread.result = ballot == meeting.arrived; break;
        case Exchange::kSum: thread.result = sum; break;
        case Exchange::kMatch: {
          thread.result = 0;
          for (unsigned other = 0; other < count; ++other)
            if (leaving_[other]->value == thread.value)
              thread.result |= uint64_t{1} << leaving_[other]->number % kWarp;
          break;
        }
      }
    }
    wake(count);
  }

  // Lets the threads in leaving_ run, at the front of the queue: a warp goes on while its stacks
  // are in the cache.
  JML_UNWATCHED void wake(unsigned count) {
    turns_->arrange(leaving_, count);
    head_ -= count;
    ready_ += count;
    for (unsigned i = 0; i < count; ++i) {
      Thread* const thread = queue_[(head_ + i) % kMaxThreads] = leaving_[i];
      thread->state = State::kReady;
      thread->last = i + 1 == count;  // those woken later come before or after all of these
    }
  }

  JML_UNWATCHED Thread* take() {
    if (ready_ == 0) report_deadlock();
    --ready_;
    return queue_[head_++ % kMaxThreads];
  }

  // Comes back when it is the thread's turn again.
  JML_UNWATCHED void turn_over() {
    Thread* const mine = current;
    Thread* const next = take();
    if (next == mine) return;
    current = next;
    switch_fiber(mine->fiber, next->fiber);
  }

  [[noreturn]] JML_UNWATCHED void report_deadlock() {
    fprintf(stderr, "CUDA emulation: block (%u, %u, %u): %u of %u threads wait for ever:\n",
            block_index.x, block_index.y, block_index.z, live_, count_);
    for (unsigned i = 0; i < count_; ++i) {
      const Thread& first = threads_[i];
      if (first.state == State::kDone) continue;
      unsigned count = 0;
      for (unsigned j = i; j < count_; ++j) {
        Thread& other = threads_[j];
        if (other.state != first.state || !(other.place == first.place)) continue;
        ++count;
        if (j > i) other.state = State::kDone;  // has been counted
      }
      fprintf(stderr, "  %u %s at %s:%d, thread %u the first\n", count,
              first.state == State::kAtBarrier ? "at a barrier of the block"
                                               : "for lanes of their warp",
              first.place.file, first.place.line, first.number);
    }
    fail("%u of %u threads had ended", count_ - live_, count_);
  }

  Fiber host_;
  Call call_;
  Turns* turns_;
  Order start_, end_;

  unsigned made_ = 0, count_ = 0, live_ = 0;
  Thread threads_[kMaxThreads];
  Warp warps_[kMaxThreads / kWarp];

  Thread* queue_[kMaxThreads];
  unsigned head_ = 0, ready_ = 0;
  Thread* leaving_[kMaxThreads];

  // The barrier that threads wait at, and what the last one gave.
  unsigned arrived_ = 0, yes_ = 0;
  Place place_;
  Order barrier_;
  unsigned result_ = 0;
};

inline Block block;

inline void Block::live_forever() {
  after_switch(last_fiber->watched, current->fiber.watched);
  for (;;) {
    block.start_.join();
    block.call_.run(block.call_.arguments);
    block.end_.leave();
    block.finish();
  }
}

inline unsigned char* shared_memory() { return block.shared; }

}  // namespace jml_cuda_emulation
