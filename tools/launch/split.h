// Text cut at a character.
#pragma once

#include <string_view>
#include <vector>

namespace strata::launch {

// "a,,b" is "a", "", "b"; "" is one empty part.
inline std::vector<std::string_view> Split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (;;) {
    const size_t end = text.find(separator);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

}  // namespace strata::launch
