#include "aio/base/start_thread.h"

#include <fmt/format.h>

#include <system_error>

namespace strata {

Result<std::jthread> StartThread(std::string_view what, std::function<void()> body) {
  try {
    return std::jthread(std::move(body));
  } catch (const std::system_error& error) {
    return ResourceExhausted(
        fmt::format("start {}: {}; raise the limit on threads (ulimit -u), or start fewer", what,
                    error.what()));
  }
}

}  // namespace strata
