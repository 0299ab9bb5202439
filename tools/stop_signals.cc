#include "tools/stop_signals.h"

#include <unistd.h>

#include <csignal>

#include "aio/base/check.h"

namespace strata::tools {
namespace {

std::atomic<bool> stop_requested = false;
static_assert(std::atomic<bool>::is_always_lock_free, "set in a signal handler");

extern "C" void RequestStop(int signal_number) {
  if (stop_requested.exchange(true)) _exit(128 + signal_number);
}

}  // namespace

void CatchStopSignals() {
  STRATA_CHECK(signal(SIGPIPE, SIG_IGN) != SIG_ERR);
  struct sigaction action = {};
  action.sa_handler = RequestStop;
  action.sa_flags = SA_RESTART;
  for (int signal_number : {SIGINT, SIGTERM}) {
    STRATA_CHECK(sigaction(signal_number, &action, nullptr) == 0);
  }
}

const std::atomic<bool>& StopRequested() { return stop_requested; }

}  // namespace strata::tools
