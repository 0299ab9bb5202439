#include "tools/human.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <string_view>
#include <utility>

namespace strata::tools {
namespace {

// Of a number that is below 999.5.
std::string ThreeDigits(double value) {
  int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return fmt::format("{:.{}f}", value, decimals);
}

// Of a whole number of small units, `ratio` of which make a large one.
std::string TwoUnits(uint64_t count, uint64_t ratio, std::string_view large,
                     std::string_view small) {
  return fmt::format("{} {} {:02} {}", count / ratio, large, count % ratio, small);
}

}  // namespace

std::string FormatDuration(std::chrono::duration<double> duration) {
  double seconds = duration.count();
  if (!(seconds >= 0 && seconds < 1e12)) return "?";
  if (seconds == 0) return "0 s";
  // A number that would be rounded up to the next unit is given in that unit.
  if (seconds < 0.9995e-3) return ThreeDigits(seconds * 1e6) + " us";
  if (seconds < 0.9995) return ThreeDigits(seconds * 1e3) + " ms";
  if (seconds < 59.95) return ThreeDigits(seconds) + " s";
  if (std::round(seconds) < 3600)
    return TwoUnits(static_cast<uint64_t>(std::round(seconds)), 60, "min", "s");
  if (std::round(seconds / 60) < 1440)
    return TwoUnits(static_cast<uint64_t>(std::round(seconds / 60)), 60, "h", "min");
  return TwoUnits(static_cast<uint64_t>(std::round(seconds / 3600)), 24, "d", "h");
}

Result<std::chrono::duration<double>> ParseDuration(std::string_view text) {
  constexpr double kLongest_s = 1e9;
  size_t digits = std::min(text.find_first_not_of("0123456789."), text.size());
  double number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + digits, number);
  bool is_number = error == std::errc() && end == text.data() + digits && text[0] != '.' &&
                   text[digits - 1] != '.';
  for (auto [unit, seconds] :
       {std::pair<std::string_view, double>("ms", 1e-3), {"s", 1}, {"min", 60}, {"h", 3600}})
    if (is_number && text.substr(digits) == unit && number > 0 && number * seconds < kLongest_s)
      return std::chrono::duration<double>(number * seconds);
  return InvalidArgument(
      fmt::format("not a duration: \"{}\" (write 60s, 2min, 1.5h or 200ms)", text));
}

std::string FormatCount(double count) {
  if (!std::isfinite(count)) return fmt::format("{}", count);
  if (count < 0) return "-" + FormatCount(-count);
  for (std::string_view suffix : {"", "k", "M", "B"}) {
    if (count < 999.5)
      return (suffix.empty() && count == std::round(count) ? fmt::format("{:.0f}", count)
                                                           : ThreeDigits(count)) +
             std::string(suffix);
    count /= 1000;
  }
  return count < 999.5 ? ThreeDigits(count) + "T" : fmt::format("{:.0f}T", count);
}

}  // namespace strata::tools
