#include "tools/plan_arguments.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <string_view>

namespace strata::tools {
namespace {

constexpr double kGb = 1e9;
constexpr double kTb = 1e12;
constexpr std::string_view kRateUnit = "GB/s";

Status BadDrives(const std::string& text) {
  return InvalidArgument(fmt::format(
      "'{}' does not describe drives: write how many and what one does, as in 8, 8@6.5/4GB/s (read "
      "and write), 8@6.5/4/7GB/s (and both at once), 8x3.84TB@6.5/4GB/s, or their directories, "
      "/nvme0,/nvme1",
      text));
}

// Takes a positive number off the front.
std::optional<double> TakeNumber(std::string_view& text) {
  double number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || !(number > 0) || !std::isfinite(number)) return std::nullopt;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return number;
}

bool Take(std::string_view prefix, std::string_view& text) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

std::vector<std::string> SplitAtCommas(const std::string& text) {
  std::vector<std::string> parts;
  for (size_t begin = 0; begin <= text.size();) {
    size_t end = std::min(text.find(',', begin), text.size());
    parts.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

// "6.5/4GB/s", "6.5/4/7GB/s".
bool TakeRates(std::string_view& rest, engine::Drives& drives) {
  std::vector<double> rates;
  do {
    std::optional<double> rate = TakeNumber(rest);
    if (!rate) return false;
    rates.push_back(*rate * kGb);
  } while (!rest.starts_with(kRateUnit) && Take("/", rest));
  if (!Take(kRateUnit, rest) || rates.size() < 2 || rates.size() > 3) return false;
  drives.read_bytes_per_s = rates[0];
  drives.write_bytes_per_s = rates[1];
  if (rates.size() == 3) drives.mixed_bytes_per_s = rates[2];
  return true;
}

}  // namespace

Result<engine::Drives> ParseDrives(const std::string& text) {
  engine::Drives drives;
  if (text.starts_with("/") || text.starts_with(".")) {
    drives.paths = SplitAtCommas(text);
    drives.count = static_cast<uint32_t>(drives.paths.size());
    return drives;
  }
  std::string_view rest = text;
  std::optional<double> count = TakeNumber(rest);
  if (!count || *count != std::floor(*count) || *count > 1024) {
    return text == "0" ? Result<engine::Drives>(drives) : BadDrives(text);
  }
  drives.count = static_cast<uint32_t>(*count);
  if (Take("x", rest)) {
    std::optional<double> capacity = TakeNumber(rest);
    if (!capacity || !Take("TB", rest)) return BadDrives(text);
    drives.capacity_bytes = static_cast<uint64_t>(*capacity * kTb);
  }
  if (Take("@", rest) && !TakeRates(rest, drives)) return BadDrives(text);
  if (!rest.empty()) return BadDrives(text);
  return drives;
}

Result<double> ParseRate(const std::string& text) {
  std::string_view rest = text;
  std::optional<double> rate = TakeNumber(rest);
  if (rate && rest == kRateUnit) return *rate * kGb;
  return InvalidArgument(
      fmt::format("'{}' is not a rate: write it in GB/s (10^9 bytes), as in 25GB/s", text));
}

}  // namespace strata::tools
