#include "aio/internal/engine_thread.h"

#include <pthread.h>
#include <signal.h>

#include <system_error>

namespace strata::aio {

Result<std::jthread> StartEngineThread(std::function<void()> body) {
  sigset_t all, before;
  STRATA_CHECK(sigfillset(&all) == 0);
  // A thread inherits the mask of the one that starts it.
  STRATA_CHECK(pthread_sigmask(SIG_SETMASK, &all, &before) == 0);
  Result<std::jthread> thread = [&]() -> Result<std::jthread> {
    try {
      return std::jthread(std::move(body));
    } catch (const std::system_error& error) {
      return ResourceExhausted(std::string("start an I/O thread: ") + error.what() +
                               "; lower [aio] thread_count or raise ulimit -u");
    }
  }();
  STRATA_CHECK(pthread_sigmask(SIG_SETMASK, &before, nullptr) == 0);
  return thread;
}

}  // namespace strata::aio
