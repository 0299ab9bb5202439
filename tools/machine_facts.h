// What a reader of measurements wants to know of the machine they were made on.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace strata::tools {

// What, and which: {"processor", "AMD EPYC 9355"}, {"kernel", "Linux 6.18.5"}. Leaves out what
// cannot be found.
std::vector<std::pair<std::string, std::string>> MachineFacts();

// This program's command line, quoted so that a shell gives the same again.
std::string CommandLineOfThisProgram();

// "2026-11-20 21:04 UTC".
std::string NowInWords();

}  // namespace strata::tools
