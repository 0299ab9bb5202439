// Ends a job of which one rank stands still: its drive never answers, an op never ends, a file
// system hangs.
//
// A thread looks ten times a second whether the rank gets on, and shows that to the ranks that wait
// for it. When nothing got on for the whole limit, and not because the rank itself waits for
// others, it tells the other ranks, and then whoever can end this process: what hangs may be in the
// kernel, where nothing interrupts it, so no thread of the run is waited for.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "aio/base/status.h"
#include "aio/io_engine.h"
#include "engine/comm/communicator.h"

namespace strata::engine {

// Thread-safe. Its engine and communicator live until Leave().
class Watchdog {
 public:
  // What the rank is at. All are called on the watchdog's thread; they must not block.
  struct Subject {
    std::function<std::string()> describe;  // "lane nvme-read: read w (node 3) waits for the drive"
    // Another number whenever something of it is done. Null: known by I/O and Tick() only.
    std::function<uint64_t()> done = {};
    // Threads that work on it; of these, some may wait for other ranks. Null: one.
    std::function<uint32_t()> working = {};
    bool may_take_long = false;  // without any sign; not to be ended
  };

  // `on_stall` is called once at most, on the watchdog's thread. With a limit of 0, or
  // without it, nothing is watched. kResourceExhausted when its thread cannot be started.
  static Result<std::unique_ptr<Watchdog>> Start(std::chrono::milliseconds limit,
                                                 Communicator& communicator,
                                                 std::function<void(const Status&)> on_stall);
  ~Watchdog();

  // Something was done.
  void Tick() { ticks_.fetch_add(1, std::memory_order_relaxed); }
  // Its transfers are progress, too.
  void WatchEngine(const aio::IoEngine* engine);
  // From now on engine and communicator may go, which is the last thing that is watched.
  void Leave();

  // While it lives, `subject` is what the rank is at; then again what it was before.
  class Scope {
   public:
    Scope(Watchdog* watchdog, Subject subject);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Watchdog& watchdog_;
  };

 private:
  Watchdog(std::chrono::milliseconds limit, Communicator& communicator,
           std::function<void(const Status&)> on_stall);
  void Work();
  bool Stalls();
  uint64_t Progress() const;
  bool IsAtWork() const;

  const std::chrono::milliseconds limit_;
  const std::function<void(const Status&)> on_stall_;
  std::atomic<uint64_t> ticks_ = 0;

  std::mutex mutex_;  // guards the fields below
  std::condition_variable quits_;
  bool quit_ = false;
  Communicator* communicator_;
  const aio::IoEngine* engine_ = nullptr;
  std::vector<Subject> subjects_;  // the last is what the rank is at
  uint64_t seen_ = 0;
  std::chrono::steady_clock::time_point looked_at_ = {};
  std::chrono::steady_clock::duration still_for_ = {};

  std::jthread thread_;
};

// "the commit of step 12 waits for the drive".
inline Watchdog::Subject Doing(std::string what) {
  return {.describe = [what = std::move(what)] { return what; }};
}
inline Watchdog::Subject MayTakeLong(std::string what) {
  Watchdog::Subject subject = Doing(std::move(what));
  subject.may_take_long = true;
  return subject;
}

}  // namespace strata::engine
