// A few requests in flight, each with memory of its own, started and awaited in turn.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "aio/base/status.h"
#include "aio/bench/stop.h"
#include "aio/io_engine.h"

namespace strata::aio {

struct WindowSlot {
  std::span<std::byte> memory;
  IoTicket ticket = {};
  // For the caller: what the request is.
  IoDirection direction = IoDirection::kRead;
  uint64_t first = 0;
  uint64_t length_bytes = 0;
};

struct WindowOptions {
  std::span<std::byte> memory;
  size_t slot_bytes = 0;
  size_t num_slots = 0;  // that many slot_bytes fit the memory (CHECKed)
};

// Sets the slot's ticket; false when there is nothing more to start.
using StartSlot = std::function<bool(WindowSlot&)>;
// The slot's request has ended well.
using FinishSlot = std::function<Status(WindowSlot&)>;

// Calls `start` for every slot, then waits for the oldest request, calls `finish` and `start` for
// its slot, and so on until `start` says no and nothing is in flight. After the first failure, or a
// stop (kCancelled), what is in flight is cancelled and waited for.
Status RunWindow(const WindowOptions& options, const StartSlot& start, const FinishSlot& finish,
                 const StopCheck& stop);

}  // namespace strata::aio
