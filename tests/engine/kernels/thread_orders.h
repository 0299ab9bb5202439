// Orders in which the threads and blocks of a kernel run.
#pragma once

#include <functional>
#include <string>

namespace strata::engine {

// Calls visit(name) under each: on the emulator ascending, descending and shuffled ones, on a GPU
// and on the host's cores twice under their own.
void ForEachThreadOrder(const std::function<void(const std::string& name)>& visit);

}  // namespace strata::engine
