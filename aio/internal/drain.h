// The end of an engine: its threads finish what is in flight.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

namespace strata::aio {

// Waits for threads, and says from time to time what keeps them: a drive that does not answer is
// not to look like a program that hangs for no reason. Thread-safe.
class Drain {
 public:
  static constexpr std::chrono::milliseconds kReportEvery = std::chrono::seconds(10);

  explicit Drain(std::chrono::milliseconds report_every) : report_every_(report_every) {}

  void ThreadEnds();  // the last thing that a thread does with the engine

  // Until `num_threads` have ended. `outstanding` names the transfers that are with the kernel.
  void Wait(size_t num_threads, const std::function<std::vector<std::string>()>& outstanding);

 private:
  const std::chrono::milliseconds report_every_;
  std::mutex mutex_;
  std::condition_variable thread_ended_;
  size_t num_ended_ = 0;
};

}  // namespace strata::aio
