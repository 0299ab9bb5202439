#include "tools/launch/layout.h"

#include <fmt/format.h>

#include <charconv>
#include <numeric>

#include "tools/launch/split.h"

namespace strata::launch {

Layout EvenLayout(uint32_t num_nodes, uint32_t num_slots) {
  Layout layout;
  for (uint32_t node = 0; node < num_nodes; ++node) {
    std::vector<uint32_t> slots(num_slots);
    std::iota(slots.begin(), slots.end(), 0u);
    layout.push_back({fmt::format("node-{}", node), num_slots, std::move(slots)});
  }
  return layout;
}

uint32_t WorldSize(const Layout& layout) {
  size_t size = 0;
  for (const NodeSlots& node : layout) size += node.slots.size();
  return static_cast<uint32_t>(size);
}

RankPlace PlaceOf(const Layout& layout, uint32_t rank) {
  uint32_t first = 0;
  for (uint32_t node_rank = 0; node_rank < layout.size(); ++node_rank) {
    const NodeSlots& node = layout[node_rank];
    const auto size = static_cast<uint32_t>(node.slots.size());
    if (rank < first + size)
      return {node_rank, rank - first, size, node.slots[rank - first], node.num_slots};
    first += size;
  }
  STRATA_CHECK(false);
}

std::string FormatLayout(const Layout& layout) {
  std::string text;
  for (const NodeSlots& node : layout) {
    text += fmt::format("{}{}:{}:{}", text.empty() ? "" : "@", node.host, node.num_slots,
                        FormatNumbers(node.slots));
  }
  return text;
}

Result<Layout> ParseLayout(std::string_view text) {
  Layout layout;
  for (std::string_view part : Split(text, '@')) {
    // From the right: the name may be an IPv6 address.
    const size_t last = part.rfind(':');
    const size_t middle = last == std::string_view::npos ? last : part.rfind(':', last - 1);
    if (middle == std::string_view::npos || middle == 0)
      return InvalidArgument(fmt::format("'{}' is no part of a layout: HOST:SLOTS:USED", part));
    NodeSlots node{.host = std::string(part.substr(0, middle)), .num_slots = 0, .slots = {}};
    STRATA_ASSIGN_OR_RETURN(node.num_slots,
                            ParseNumber(part.substr(middle + 1, last - middle - 1)));
    STRATA_ASSIGN_OR_RETURN(node.slots, ParseNumbers(part.substr(last + 1)));
    layout.push_back(std::move(node));
  }
  return layout;
}

std::string FormatNumbers(const std::vector<uint32_t>& numbers) {
  std::string text;
  for (size_t i = 0; i < numbers.size();) {
    size_t end = i + 1;
    while (end < numbers.size() && numbers[end] == numbers[end - 1] + 1) ++end;
    text += fmt::format("{}{}", text.empty() ? "" : ",", numbers[i]);
    if (end > i + 1) text += fmt::format("-{}", numbers[end - 1]);
    i = end;
  }
  return text;
}

Result<uint32_t> ParseNumber(std::string_view text) {
  uint32_t number = 0;
  auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || stop != text.data() + text.size())
    return InvalidArgument(fmt::format("'{}' is not a number", text));
  return number;
}

Result<std::vector<uint32_t>> ParseNumbers(std::string_view text) {
  constexpr uint32_t kMaxNumbers = 4096;
  std::vector<uint32_t> numbers;
  for (std::string_view part : Split(text, ',')) {
    const size_t dash = part.find('-');
    STRATA_ASSIGN_OR_RETURN(const uint32_t first, ParseNumber(part.substr(0, dash)));
    uint32_t last = first;
    if (dash != std::string_view::npos) {
      STRATA_ASSIGN_OR_RETURN(last, ParseNumber(part.substr(dash + 1)));
    }
    if (last < first || last - first >= kMaxNumbers)
      return InvalidArgument(fmt::format("'{}' is not a range", part));
    for (uint32_t number = first; number <= last; ++number) numbers.push_back(number);
  }
  return numbers;
}

}  // namespace strata::launch
