// UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF.
#pragma once

#include <cstddef>
#include <string_view>

namespace strata::engine::data_internal {

struct Utf8Scan {
  size_t valid_bytes = 0;  // the longest prefix of whole valid characters
  // What follows them: nothing or the start of a character that the end cuts off (false), or
  // bytes that no continuation makes valid (true).
  bool is_invalid = false;
};

Utf8Scan ScanUtf8(std::string_view text);

}  // namespace strata::engine::data_internal
