// What a rank lets the other ranks of its node see of what it does: counters in shared memory.
//
// A collective is a number of rows, pieces of the payload. Counters count rows over all collectives
// of a channel, so they only grow (and wrap), and nobody ever resets one.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string>

#include "aio/base/status.h"
#include "engine/comm/communicator.h"

namespace strata::engine {

// Where a payload is in its rank's shared memory.
struct Exposure {
  static constexpr uint32_t kStaged = UINT32_MAX;

  uint32_t region = kStaged;  // kStaged: row by row in the slots of the staging buffer
  uint64_t offset_bytes = 0;
  bool is_staged() const { return region == kStaged; }
};

// What a rank is about to do.
struct Announcement {
  uint32_t number = 0;  // on the channel, from 1
  Collective collective = Collective::kBarrier;
  DType dtype = DType::kF32;
  uint32_t root = 0;
  uint64_t size_bytes = 0;  // of the whole
  Exposure source = {};     // what the others read from the start
  Exposure relay = {};      // what they read once it has come from other nodes

  bool Matches(const Announcement& other) const {
    return number == other.number && collective == other.collective && dtype == other.dtype &&
           root == other.root && size_bytes == other.size_bytes;
  }
};

std::string ShownPayload(const Announcement& announcement);  // "all-gather 17 (1.5 MiB)"
std::string ShownFully(const Announcement& announcement);  // "all-gather of 64 bytes, fp32, root 0"

// Written by its rank, read and slept on by others. A line of the cache each, so that who waits for
// one does not slow down another.
struct alignas(64) SharedCounter {
  std::atomic<uint32_t> value = 0;
};
static_assert(std::atomic<uint32_t>::is_always_lock_free);

// a >= b for counters that wrap.
constexpr bool AtLeast(uint32_t a, uint32_t b) { return static_cast<int32_t>(a - b) >= 0; }

struct ChannelBoard {
  SharedCounter begun;                    // announcements
  SharedCounter produced;                 // rows that others may read from the source
  SharedCounter relayed;                  // rows that others may read from the relay
  SharedCounter consumed;                 // rows of others that this rank needs no longer
  std::atomic<uint32_t> waiting_for = 0;  // a rank + 1
  // By number: the second is written while others may still read the first.
  std::array<Announcement, 2> announcements;
};

// What a rank shows of its collectives on a GPU. Those of one number are the same on all ranks.
struct GpuBoard {
  static constexpr size_t kNumKept = 32;
  struct Kept {
    std::atomic<uint64_t> number = 0;  // 0 while it is written
    std::atomic<uint64_t> what = 0;    // collective, dtype and root
    std::atomic<uint64_t> size_bytes = 0;
  };
  std::atomic<uint64_t> arrived = 0;  // the last one that its stream has come to
  std::array<Kept, kNumKept> kept;    // by number
};

struct RankBoard {
  uint64_t nonce = 0;  // of the job and the rank, so that nobody takes another file for it
  std::atomic<uint32_t> sleepers = 0;  // ranks that sleep on one of the counters
  std::atomic<bool> has_left = false;  // no longer takes part, and not by a failure
  std::atomic<uint64_t> progress = 0;  // another number whenever the rank gets on
  std::atomic<bool> failed = false;
  Code failure_code = Code::kInternal;
  std::array<char, 1024> failure_text = {};
  std::array<ChannelBoard, kNumChannels> channels;
  GpuBoard gpu;
};

// Makes `value` visible with all that was written before it, and wakes who sleeps on the counter.
void Publish(RankBoard& board, SharedCounter& counter, uint32_t value);
void WakeAll(SharedCounter& counter);
// Sleeps until the counter is no longer `value`, for a limited time, or for no reason.
void SleepOn(RankBoard& board, SharedCounter& counter, uint32_t value,
             std::chrono::milliseconds at_most);

}  // namespace strata::engine
