// Threads of the engine.
#pragma once

#include <functional>
#include <thread>

#include "aio/base/status.h"

namespace strata::aio {

// A thread that takes no signals: a Ctrl-C finds a thread that knows what to do with it, and a
// write past RLIMIT_FSIZE is an error to report, not the end of the process.
Result<std::jthread> StartEngineThread(std::function<void()> body);

}  // namespace strata::aio
