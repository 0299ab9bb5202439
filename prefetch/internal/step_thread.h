// A thread that does its part of each step and sleeps in between.
#pragma once

#include <functional>
#include <thread>

#include "aio/base/start_thread.h"
#include "prefetch/internal/step_board.h"

namespace strata::prefetch {

class StepThread {
 public:
  // `part` does one step; the waiter is its own. The board has to Quit() before this is destroyed.
  StepThread(StepBoard& board, std::function<void(StepBoard::Waiter&)> part) {
    Result<std::jthread> thread =
        StartThread("a thread of the executor", [this, &board, part = std::move(part)] {
          uint64_t steps_seen = 0;
          while (board.AwaitStep(&steps_seen)) {
            part(waiter_);
            board.LeaveStep();
          }
        });
    if (!thread.ok()) {
      board.MissThread(thread.status());
      return;
    }
    board.AddThread(&waiter_);
    thread_ = std::move(*thread);
  }
  StepThread(const StepThread&) = delete;
  StepThread& operator=(const StepThread&) = delete;

 private:
  StepBoard::Waiter waiter_;
  std::jthread thread_;  // last, so that it has ended before its waiter goes
};

}  // namespace strata::prefetch
