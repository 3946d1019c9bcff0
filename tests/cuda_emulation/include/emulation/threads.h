// What is known of a thread and of a warp.
#pragma once

#include "fiber.h"
#include "vector_types.h"

namespace jml_cuda_emulation {

constexpr unsigned kWarp = 32, kMaxThreads = 1024;
constexpr uint64_t kPoison = ~uint64_t{0};  // NaN, -1: what nobody has written

enum class State { kReady, kAtBarrier, kInExchange, kDone };

// What the lanes of a warp do together.
enum class Exchange { kSync, kShuffle, kBallot, kAny, kAll, kMatch, kSum };

// Whether it orders memory: the others promise nothing but their result.
inline bool orders(Exchange kind) { return kind == Exchange::kSync; }

inline const char* name(Exchange kind) {
  switch (kind) {
    case Exchange::kSync: return "__syncwarp";
    case Exchange::kShuffle: return "a shuffle";
    case Exchange::kMatch: return "a match";
    case Exchange::kSum: return "a sum";
    default: return "a vote";
  }
}

// Lanes that have come to an exchange with one mask.
struct Meeting {
  uint32_t mask, arrived;
  Exchange kind;
  Order order;
};

struct Thread {
  Fiber fiber;
  uint3 index;
  unsigned number;  // within the block; its last five bits are the lane
  State state;
  Place place;  // where it waits

  // What the thread brings to an exchange, and what it takes away.
  uint64_t value, result;
  int source;  // lane that a shuffle reads
  Order order;
  bool last;  // to leave, of those in the meeting: it closes the order
};

struct Warp {
  uint32_t live;  // lanes
  unsigned meetings;
  Meeting meeting[kWarp];
};

}  // namespace jml_cuda_emulation
