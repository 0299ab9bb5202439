// "Did you mean": the known word nearest to a mistyped one.
#pragma once

#include <set>
#include <string>
#include <string_view>

namespace strata::engine::config_internal {

// By Levenshtein distance; empty when nothing is closer than a third of the word.
std::string Nearest(std::string_view word, const std::set<std::string, std::less<>>& known);

}  // namespace strata::engine::config_internal
