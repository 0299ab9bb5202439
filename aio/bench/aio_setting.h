// What a disk is measured with: a setting of the engine, and a kind of traffic.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "aio/base/status.h"
#include "aio/io_engine.h"

namespace strata::aio {

// The knobs of IoEngineOptions that decide how fast a disk is and what that costs.
struct AioSetting {
  IoBackend backend = IoBackend::kIoUring;
  uint64_t block_size_bytes = 1 << 20;
  uint32_t queue_depth = 16;  // pieces in flight per thread
  uint32_t thread_count = 1;
  bool sqpoll = false;  // io_uring only: a kernel thread takes the submissions

  bool operator==(const AioSetting&) const = default;

  // The memory that is lent to the kernel at a time.
  uint64_t in_flight_bytes() const { return block_size_bytes * queue_depth * thread_count; }
};

// "io_uring 1 MiB x 16 x 1 thread", "io_uring+sqpoll 512 KiB x 8 x 2 threads".
std::string DescribeSetting(const AioSetting& setting);
// "io_uring", "io_uring+sqpoll", "posix".
std::string EngineName(const AioSetting& setting);

// What a training step does to a disk: in forward it reads, while the optimizer runs it reads and
// writes at once, and at the end of a step or for a checkpoint it writes.
enum class Traffic { kRead, kWrite, kMix };

std::string_view TrafficName(Traffic traffic);  // "read", "write", "mix"

}  // namespace strata::aio
