// The small text files in which the kernel tells of itself, read strictly: what is missing, or not
// what it should be, is nothing.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace strata::aio {

// Without the newline at the end. Nothing when it cannot be read or is implausibly large.
std::optional<std::string> ReadAttribute(const std::string& path);

// Digits and nothing else.
std::optional<uint64_t> ParseNumber(std::string_view text);
std::optional<uint64_t> ReadNumber(const std::string& path);

std::vector<std::string> SplitWords(std::string_view text);
std::vector<std::string> SplitLines(std::string_view text);

// The word in brackets: "madvise" of "always [madvise] never".
std::optional<std::string> ChosenWord(std::string_view text);

// The rest of the line of `text` that begins with `name`: "8 kB" of "MemFree:  8 kB".
std::optional<std::string> FieldOf(std::string_view text, std::string_view name);

struct NumberRange {
  uint64_t first;
  uint64_t last;
};
// Of a list as the kernel writes it: "0-3,8".
std::optional<std::vector<NumberRange>> ParseRanges(std::string_view text);

}  // namespace strata::aio
