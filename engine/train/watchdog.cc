#include "engine/train/watchdog.h"

#include <fmt/format.h>

#include <algorithm>

#include "aio/base/check.h"
#include "aio/base/start_thread.h"

namespace strata::engine {
namespace {

using Clock = std::chrono::steady_clock;

// Often enough to answer ranks of other nodes, who do not wait long for an answer.
constexpr std::chrono::milliseconds kLongestPause(100);
constexpr int kLooksPerLimit = 16;

}  // namespace

Result<std::unique_ptr<Watchdog>> Watchdog::Start(std::chrono::milliseconds limit,
                                                  Communicator& communicator,
                                                  std::function<void(const Status&)> on_stall) {
  std::unique_ptr<Watchdog> watchdog(new Watchdog(limit, communicator, std::move(on_stall)));
  if (limit.count() == 0 || watchdog->on_stall_ == nullptr) return watchdog;
  STRATA_ASSIGN_OR_RETURN(watchdog->thread_,
                          StartThread("the watchdog", [self = watchdog.get()] { self->Work(); }));
  return watchdog;
}

Watchdog::Watchdog(std::chrono::milliseconds limit, Communicator& communicator,
                   std::function<void(const Status&)> on_stall)
    : limit_(limit), on_stall_(std::move(on_stall)), communicator_(&communicator) {
  subjects_.push_back(Doing("the start of the run"));
}

Watchdog::~Watchdog() {
  std::lock_guard lock(mutex_);
  quit_ = true;
  quits_.notify_all();
}

void Watchdog::WatchEngine(const aio::IoEngine* engine) {
  std::lock_guard lock(mutex_);
  engine_ = engine;
}

void Watchdog::Leave() {
  std::lock_guard lock(mutex_);
  engine_ = nullptr;
  communicator_ = nullptr;
  subjects_ = {Doing("the end of the run")};
  still_for_ = {};
}

Watchdog::Scope::Scope(Watchdog* watchdog, Subject subject) : watchdog_(*watchdog) {
  watchdog_.Tick();
  std::lock_guard lock(watchdog_.mutex_);
  watchdog_.subjects_.push_back(std::move(subject));
}

Watchdog::Scope::~Scope() {
  watchdog_.Tick();
  std::lock_guard lock(watchdog_.mutex_);
  watchdog_.subjects_.pop_back();
}

void Watchdog::Work() {
  const auto pause = std::min<Clock::duration>(kLongestPause, limit_ / kLooksPerLimit);
  std::unique_lock lock(mutex_);
  looked_at_ = Clock::now();
  while (!quits_.wait_for(lock, pause, [&] { return quit_; })) {
    if (subjects_.back().may_take_long) Tick();
    const Clock::time_point now = Clock::now();
    // A process that was stopped for an hour and goes on has not stood still for an hour.
    still_for_ += std::min<Clock::duration>(now - looked_at_, 2 * pause);
    looked_at_ = now;
    if (!Stalls()) continue;
    const Status why(
        Code::kDeadlineExceeded,
        fmt::format("no progress for {} s: {}", std::chrono::duration<double>(limit_).count(),
                    subjects_.back().describe()));
    if (communicator_ != nullptr) communicator_->Abort(why);
    lock.unlock();
    return on_stall_(why);
  }
}

bool Watchdog::Stalls() {
  const uint64_t progress = Progress();
  if (communicator_ != nullptr) communicator_->ShowProgress(progress);
  if (progress != seen_) still_for_ = {};
  seen_ = progress;
  if (still_for_ < limit_) return false;
  if (IsAtWork()) return true;
  // Whom it waits for decides. It may come just now, and then there is something to do again.
  still_for_ = limit_ * 3 / 4;
  return false;
}

// A number that only grows, while the rank is at the same thing.
uint64_t Watchdog::Progress() const {
  uint64_t progress = ticks_.load(std::memory_order_relaxed);
  if (communicator_ != nullptr) progress += communicator_->waits().ended;
  if (engine_ != nullptr) {
    const aio::IoCounters counters = engine_->counters();
    progress += counters.bytes_read + counters.bytes_written;
  }
  const Subject& subject = subjects_.back();
  return progress + (subject.done ? subject.done() : 0);
}

bool Watchdog::IsAtWork() const {
  const Subject& subject = subjects_.back();
  const uint32_t waiting = communicator_ == nullptr ? 0 : communicator_->waits().now;
  return (subject.working ? subject.working() : 1) > waiting;
}

}  // namespace strata::engine
