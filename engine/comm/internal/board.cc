#include "engine/comm/internal/board.h"

#include <fmt/format.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <climits>

#include "aio/base/units.h"

namespace strata::engine {

void WakeAll(SharedCounter& counter) {
  const auto woken = syscall(SYS_futex, reinterpret_cast<uint32_t*>(&counter.value), FUTEX_WAKE,
                             INT_MAX, nullptr, nullptr, 0);
  STRATA_CHECK(woken >= 0);
}

void Publish(RankBoard& board, SharedCounter& counter, uint32_t value) {
  // In one order with what a sleeper does: it says that it sleeps, then looks again.
  counter.value.store(value, std::memory_order_seq_cst);
  if (board.sleepers.load(std::memory_order_seq_cst) > 0) WakeAll(counter);
}

void SleepOn(RankBoard& board, SharedCounter& counter, uint32_t value,
             std::chrono::milliseconds at_most) {
  board.sleepers.fetch_add(1, std::memory_order_seq_cst);
  if (counter.value.load(std::memory_order_seq_cst) == value) {
    const timespec limit{.tv_sec = at_most.count() / 1000,
                         .tv_nsec = at_most.count() % 1000 * 1'000'000};
    const auto slept = syscall(SYS_futex, reinterpret_cast<uint32_t*>(&counter.value), FUTEX_WAIT,
                               value, &limit, nullptr, 0);
    STRATA_CHECK(slept == 0 || errno == EAGAIN || errno == EINTR || errno == ETIMEDOUT);
  }
  board.sleepers.fetch_sub(1, std::memory_order_seq_cst);
}

std::string ShownPayload(const Announcement& announcement) {
  return fmt::format("{} {} ({})", CollectiveName(announcement.collective), announcement.number,
                     FormatBytes(announcement.size_bytes));
}

std::string ShownFully(const Announcement& announcement) {
  return fmt::format("{} of {} bytes, {}, root {}", CollectiveName(announcement.collective),
                     announcement.size_bytes, DTypeName(announcement.dtype), announcement.root);
}

}  // namespace strata::engine
