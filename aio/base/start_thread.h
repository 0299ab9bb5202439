// Starting a thread without an exception.
#pragma once

#include <functional>
#include <string_view>
#include <thread>

#include "aio/base/status.h"

namespace strata {

// kResourceExhausted where the process may have no more threads; `what` is what it was to be: "an
// I/O thread".
Result<std::jthread> StartThread(std::string_view what, std::function<void()> body);

}  // namespace strata
