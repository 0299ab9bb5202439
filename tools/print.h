// Output that scripts read: what could not be written is noticed.
#pragma once

#include <fmt/format.h>

#include <cstdio>
#include <string>
#include <string_view>
#include <utility>

#include "aio/base/status.h"

namespace strata::tools {

// To stdout, at once. A failure is remembered by the stream: see CheckOutput().
void PrintText(std::string_view text);

template <typename... Args>
void Print(fmt::format_string<Args...> format, Args&&... args) {
  PrintText(fmt::format(format, std::forward<Args>(args)...));
}

// An error when anything printed since the start did not reach its file or pipe.
Status CheckOutput();

}  // namespace strata::tools
