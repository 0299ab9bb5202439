#include "tools/launch/event_loop.h"

#include <algorithm>
#include <cerrno>
#include <vector>

#include "aio/base/check.h"

namespace strata::launch {

void EventLoop::Watch(int fd, short events, OnEvent on_event) {
  watched_[fd] = {++next_id_, events, std::move(on_event)};
}

void EventLoop::Forget(int fd) { watched_.erase(fd); }

EventLoop::TimerId EventLoop::After(Clock::duration delay, OnTime on_time) {
  TimerId id{++next_id_};
  timers_.insert({Clock::now() + delay, {id, std::move(on_time)}});
  return id;
}

void EventLoop::Cancel(TimerId timer) {
  std::erase_if(timers_, [timer](const auto& entry) { return entry.second.id == timer; });
}

int EventLoop::MillisecondsToNextTimer() const {
  if (timers_.empty()) return -1;
  auto left = std::chrono::ceil<std::chrono::milliseconds>(timers_.begin()->first - Clock::now());
  return static_cast<int>(std::clamp<int64_t>(left.count(), 0, 60'000));
}

void EventLoop::CallDueTimers() {
  // Those that a callback adds wait for the next round, so that no two can call each other forever.
  const Clock::time_point now = Clock::now();
  while (!stopped_ && !timers_.empty() && timers_.begin()->first <= now) {
    OnTime on_time = std::move(timers_.begin()->second.on_time);
    timers_.erase(timers_.begin());
    on_time();
  }
}

void EventLoop::PollOnce() {
  std::vector<pollfd> fds;
  std::vector<uint64_t> ids;
  for (const auto& [fd, watched] : watched_) {
    fds.push_back({fd, watched.events, 0});
    ids.push_back(watched.id);
  }
  const int ready = poll(fds.data(), fds.size(), MillisecondsToNextTimer());
  STRATA_CHECK(ready >= 0 || errno == EINTR);
  for (size_t i = 0; ready > 0 && i < fds.size() && !stopped_; ++i) {
    if (fds[i].revents == 0) continue;
    // An earlier callback may have forgotten it, and another descriptor got its number since.
    auto watched = watched_.find(fds[i].fd);
    if (watched == watched_.end() || watched->second.id != ids[i]) continue;
    OnEvent on_event = watched->second.on_event;
    on_event(fds[i].revents);
  }
}

void EventLoop::Run() {
  while (!stopped_) {
    CallDueTimers();
    if (!stopped_) PollOnce();
  }
  stopped_ = false;
}

}  // namespace strata::launch
