// How somebody who waits is told how far it is, and tells that it should end.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

namespace strata::aio {

// Asked often, from one thread; true from then on means: end soon. Empty: never.
using StopCheck = std::function<bool()>;

// "writing the scratch files", bytes done, bytes in all.
using BytesProgress = std::function<void(std::string_view what, uint64_t done, uint64_t total)>;

inline bool ShouldStop(const StopCheck& stop) { return stop && stop(); }

}  // namespace strata::aio
