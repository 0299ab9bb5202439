// A process that may start no more threads.
#pragma once

#include <pthread.h>

#include "aio/base/check.h"

namespace strata::fakes {

// While it lives, a new thread asks for a larger stack than there are addresses, which is refused
// with EAGAIN as by the limit on threads; that limit itself does not bind root.
class NoThreads {
 public:
  NoThreads() {
    STRATA_CHECK(pthread_getattr_default_np(&before_) == 0);
    pthread_attr_t huge = before_;
    STRATA_CHECK(pthread_attr_setstacksize(&huge, size_t{1} << 48) == 0);
    STRATA_CHECK(pthread_setattr_default_np(&huge) == 0);
  }
  NoThreads(const NoThreads&) = delete;
  NoThreads& operator=(const NoThreads&) = delete;
  ~NoThreads() { STRATA_CHECK(pthread_setattr_default_np(&before_) == 0); }

 private:
  pthread_attr_t before_;
};

}  // namespace strata::fakes
