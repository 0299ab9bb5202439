// Numbers for people: three digits and a unit. Bytes are in aio/base/units.h.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "aio/base/status.h"

namespace strata::tools {

// "0 s", "250 us", "4.25 s", "3 min 12 s", "2 h 05 min", "3 d 04 h"; "?" for what is negative or
// not a number, as an estimate made of no steps is.
std::string FormatDuration(std::chrono::duration<double> duration);

// "60s", "2min", "1.5h", "200ms": a positive number and its unit, without a space. "60" and "1m"
// are errors, not guesses.
Result<std::chrono::duration<double>> ParseDuration(std::string_view text);

// "0.25", "950", "12.3k", "1.24B": thousands, millions, billions, trillions.
std::string FormatCount(double count);

}  // namespace strata::tools
