#include "aio/base/units.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cmath>

namespace strata {
namespace {

struct Unit {
  std::string_view name;
  uint64_t bytes;
};
constexpr std::array<Unit, 5> kUnits = {
    {{"TiB", 1ULL << 40}, {"GiB", 1ULL << 30}, {"MiB", 1ULL << 20}, {"KiB", 1ULL << 10}, {"B", 1}}};

Status BadSize(std::string_view text) {
  return InvalidArgument(fmt::format(
      "'{}' is not a size: write a number with B, KiB, MiB, GiB or TiB, as in 64MiB", text));
}

}  // namespace

Result<uint64_t> ParseBytes(std::string_view text) {
  double number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || number < 0) return BadSize(text);
  std::string_view suffix = text.substr(static_cast<size_t>(end - text.data()));
  if (suffix.empty()) suffix = "B";
  for (const Unit& unit : kUnits) {
    if (suffix != unit.name) continue;
    double bytes = number * static_cast<double>(unit.bytes);
    if (bytes >= 0x1p63 || bytes != std::floor(bytes)) return BadSize(text);
    return static_cast<uint64_t>(bytes);
  }
  return BadSize(text);
}

std::string FormatBytes(uint64_t bytes) {
  for (const Unit& unit : kUnits) {
    if (bytes < unit.bytes) continue;
    double amount = static_cast<double>(bytes) / static_cast<double>(unit.bytes);
    if (bytes % unit.bytes == 0 || amount >= 100)
      return fmt::format("{:.0f} {}", amount, unit.name);
    return fmt::format("{:.{}f} {}", amount, amount >= 10 ? 1 : 2, unit.name);
  }
  return "0 B";
}

}  // namespace strata
