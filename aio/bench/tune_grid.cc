#include "aio/bench/tune_grid.h"

#include <algorithm>

#include "aio/base/units.h"

namespace strata::aio {
namespace {

constexpr uint64_t kSmallestBlock = 128_KiB;
constexpr uint64_t kLargestBlock = 8_MiB;
constexpr uint32_t kDeepestQueue = 64;
constexpr uint32_t kMostThreads = 4;

void AddShapes(AioSetting setting, const TuneMachine& machine, std::vector<AioSetting>& to) {
  uint32_t most_threads = std::clamp(machine.cores, 1u, kMostThreads);
  for (uint64_t block = kSmallestBlock; block <= kLargestBlock; block *= 2)
    for (uint32_t depth = 1; depth <= kDeepestQueue; depth *= 2)
      for (uint32_t threads = 1; threads <= most_threads; threads *= 2) {
        setting.block_size_bytes = block;
        setting.queue_depth = depth;
        setting.thread_count = threads;
        bool is_smallest = block == kSmallestBlock && depth == 1 && threads == 1;
        if (is_smallest || setting.in_flight_bytes() <= machine.in_flight_limit_bytes)
          to.push_back(setting);
      }
}

}  // namespace

std::vector<AioSetting> DefaultCandidates(const TuneMachine& machine) {
  std::vector<AioSetting> candidates;
  for (IoBackend backend : machine.backends) {
    AddShapes({.backend = backend, .sqpoll = false}, machine, candidates);
    if (backend == IoBackend::kIoUring && machine.try_sqpoll && machine.cores >= 2)
      AddShapes({.backend = backend, .sqpoll = true}, machine, candidates);
  }
  return candidates;
}

}  // namespace strata::aio
