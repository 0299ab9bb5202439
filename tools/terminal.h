// What is known of where the output goes.
#pragma once

#include <cstddef>
#include <string_view>

namespace strata::tools {

enum class Colour { kNone, kAnsi };

struct Terminal {
  bool is_live = false;  // a line can be rewritten: a terminal, and not a dumb one
  Colour colour = Colour::kNone;
};

// Looks at the descriptor and at TERM and NO_COLOR (https://no-color.org).
Terminal DetectTerminal(int fd);

// 80 if the terminal does not say.
size_t WidthOf(int fd);

// Characters, not bytes, of UTF-8 text without control sequences or double-width characters.
size_t DisplayWidth(std::string_view text);

}  // namespace strata::tools
