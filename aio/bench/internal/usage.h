// What the process has used.
#pragma once

namespace strata::aio {

// User and system time of all threads, the engine's and SQPOLL's among them.
double ProcessCpuSeconds();
double ThreadCpuSeconds();

// Adds the time that this thread works to a sum.
class ThreadCpuTimer {
 public:
  explicit ThreadCpuTimer(double& sum_s) : sum_s_(sum_s), begin_s_(ThreadCpuSeconds()) {}
  ThreadCpuTimer(const ThreadCpuTimer&) = delete;
  ~ThreadCpuTimer() { sum_s_ += ThreadCpuSeconds() - begin_s_; }

 private:
  double& sum_s_;
  double begin_s_;
};

}  // namespace strata::aio
