#include "aio/internal/engine_thread.h"

#include <pthread.h>
#include <signal.h>

#include "aio/base/start_thread.h"

namespace strata::aio {

Result<std::jthread> StartEngineThread(std::function<void()> body) {
  sigset_t all, before;
  STRATA_CHECK(sigfillset(&all) == 0);
  // A thread inherits the mask of the one that starts it.
  STRATA_CHECK(pthread_sigmask(SIG_SETMASK, &all, &before) == 0);
  Result<std::jthread> thread = StartThread("an I/O thread ([aio] thread_count)", std::move(body));
  STRATA_CHECK(pthread_sigmask(SIG_SETMASK, &before, nullptr) == 0);
  return thread;
}

}  // namespace strata::aio
