// Ctrl-C as a question that long work asks now and then.
#pragma once

#include <atomic>

namespace strata::tools {

// From now on SIGINT and SIGTERM ask to stop; the second one ends the program at once. A reader of
// our output that goes away is no reason to end. Once per program.
void CatchStopSignals();

// True after the first. Lock-free.
const std::atomic<bool>& StopRequested();

}  // namespace strata::tools
