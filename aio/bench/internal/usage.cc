#include "aio/bench/internal/usage.h"

#include <ctime>

#include "aio/base/check.h"

namespace strata::aio {
namespace {

double SecondsOf(clockid_t clock) {
  timespec time = {};
  STRATA_CHECK(clock_gettime(clock, &time) == 0);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

}  // namespace

double ProcessCpuSeconds() { return SecondsOf(CLOCK_PROCESS_CPUTIME_ID); }
double ThreadCpuSeconds() { return SecondsOf(CLOCK_THREAD_CPUTIME_ID); }

}  // namespace strata::aio
