// System calls that a signal may interrupt.
#pragma once

#include <cerrno>

namespace strata::aio {

// How often in a row a call may come back without having done anything (EINTR, EAGAIN) before
// that is a failure.
inline constexpr int kMaxRetries = 100;

// Calls again while `call` returns -1 with EINTR, with a bound.
template <typename Call>
auto RetryOnEintr(Call call) {
  auto result = call();
  for (int i = 0; i < kMaxRetries && result == -1 && errno == EINTR; ++i) result = call();
  return result;
}

}  // namespace strata::aio
