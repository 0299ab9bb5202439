// What strata io tune found, as one HTML page that needs nothing else: no scripts, no fonts, no
// network. Well-formed XML, light and dark, readable by screen readers.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "aio/bench/tune.h"

namespace strata::tools {

struct TunePage {
  std::string command;                                     // that made it, to be pasted
  std::vector<std::pair<std::string, std::string>> facts;  // of the machine: what, and which
  std::string aio_section;                                 // TOML to be pasted; may be empty
};

std::string TuneReportToHtml(const aio::TuneReport& report, const TunePage& page);

// Text for elements and attributes. What XML forbids becomes U+FFFD.
std::string EscapeHtml(std::string_view text);

}  // namespace strata::tools
