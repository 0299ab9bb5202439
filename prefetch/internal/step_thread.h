// A thread that does its part of each step and sleeps in between.
#pragma once

#include <functional>
#include <thread>

#include "prefetch/internal/step_board.h"

namespace strata::prefetch {

class StepThread {
 public:
  // `part` does one step; the waiter is its own. The board has to Quit() before this is destroyed.
  StepThread(StepBoard& board, std::function<void(StepBoard::Waiter&)> part) {
    board.AddThread(&waiter_);
    thread_ = std::thread([this, &board, part = std::move(part)] {
      uint64_t steps_seen = 0;
      while (board.AwaitStep(&steps_seen)) {
        part(waiter_);
        board.LeaveStep();
      }
    });
  }
  StepThread(const StepThread&) = delete;
  StepThread& operator=(const StepThread&) = delete;
  ~StepThread() { thread_.join(); }

 private:
  StepBoard::Waiter waiter_;
  std::thread thread_;
};

}  // namespace strata::prefetch
