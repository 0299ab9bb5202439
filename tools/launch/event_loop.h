// One thread that waits for descriptors, times and signals, and calls back.
#pragma once

#include <poll.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>

namespace strata::launch {

// Thread-compatible. Callbacks may watch, forget and stop whatever they like.
class EventLoop {
 public:
  using Clock = std::chrono::steady_clock;
  using OnEvent = std::function<void(short revents)>;
  using OnTime = std::function<void()>;
  enum class TimerId : uint64_t {};

  // `on_event` gets what poll(2) saw, errors and hang-ups included. Replaces an earlier watch.
  void Watch(int fd, short events, OnEvent on_event);
  void Forget(int fd);

  TimerId After(Clock::duration delay, OnTime on_time);
  void Cancel(TimerId timer);
  // Calls back from Run(), not from within: for owners that end what is just calling them.
  void Soon(OnTime on_time) { After({}, std::move(on_time)); }

  // Returns after Stop(), also one that came before it.
  void Run();
  void Stop() { stopped_ = true; }

 private:
  struct Watched {
    uint64_t id = 0;
    short events = 0;
    OnEvent on_event;
  };
  struct Timer {
    TimerId id{};
    OnTime on_time;
  };

  int MillisecondsToNextTimer() const;
  void CallDueTimers();
  void PollOnce();

  std::map<int, Watched> watched_;
  std::multimap<Clock::time_point, Timer> timers_;
  uint64_t next_id_ = 0;
  bool stopped_ = false;
};

}  // namespace strata::launch
