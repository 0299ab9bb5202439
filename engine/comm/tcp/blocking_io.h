// Short texts over connections, until a deadline; for meeting only.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "aio/base/status.h"

namespace strata::engine {

using Deadline = std::chrono::steady_clock::time_point;

// A connection of non-blocking kind. kDeadlineExceeded, kUnavailable where the other end is gone,
// kInternal where what comes is no such text.
Status SendText(int connection, std::string_view text, Deadline deadline);
Result<std::string> ReceiveText(int connection, Deadline deadline);

// Waits until one of them is to be read from. Empty at the deadline.
bool AwaitReadable(int connection, Deadline deadline);

}  // namespace strata::engine
