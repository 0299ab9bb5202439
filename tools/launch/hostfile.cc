#include "tools/launch/hostfile.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "aio/file.h"
#include "tools/launch/split.h"

namespace strata::launch {
namespace {

constexpr uint32_t kMaxSlots = 1024;

std::vector<std::string_view> Words(std::string_view line) {
  std::vector<std::string_view> words;
  while (true) {
    const size_t begin = line.find_first_not_of(" \t\r");
    if (begin == std::string_view::npos) return words;
    line.remove_prefix(begin);
    const size_t end = std::min(line.find_first_of(" \t\r"), line.size());
    words.push_back(line.substr(0, end));
    line.remove_prefix(end);
  }
}

Result<NodeSlots> ParseLine(const std::vector<std::string_view>& words) {
  constexpr std::string_view kSlots = "slots=";
  constexpr std::string_view kMaxSlotsKey = "max_slots=";  // OpenMPI's, which says no more
  const std::string host(words[0]);
  if (words.size() < 2 || !words[1].starts_with(kSlots)) {
    return InvalidArgument(
        fmt::format("'{}' does not say how many ranks fit: write '{} slots=8'", words[0], host));
  }
  if (host.find_first_of("@:=,") != std::string::npos)
    return InvalidArgument(fmt::format("'{}' is no name of a host", host));
  Result<uint32_t> count = ParseNumber(words[1].substr(kSlots.size()));
  if (!count.ok() || *count == 0 || *count > kMaxSlots)
    return InvalidArgument(
        fmt::format("'{}' is not from slots=1 to slots={}", words[1], kMaxSlots));
  for (size_t i = 2; i < words.size(); ++i) {
    if (!words[i].starts_with(kMaxSlotsKey))
      return InvalidArgument(fmt::format("'{}' is not known: only slots= is", words[i]));
  }
  Layout one = EvenLayout(1, *count);
  one[0].host = host;
  return one[0];
}

struct NodeSpec {
  std::string host;
  std::optional<std::vector<uint32_t>> slots;  // nothing: all
};

Result<NodeSpec> ParseNodeSpec(std::string_view text) {
  const size_t colon = text.find(':');
  NodeSpec spec{std::string(text.substr(0, colon)), {}};
  if (colon == std::string_view::npos) return spec;
  Result<std::vector<uint32_t>> slots = ParseNumbers(text.substr(colon + 1));
  if (!slots.ok()) return slots.status().With(fmt::format("'{}'", text));
  spec.slots = *slots;
  return spec;
}

Status CheckSlots(const NodeSlots& node, const std::vector<uint32_t>& slots) {
  for (uint32_t slot : slots) {
    if (std::find(node.slots.begin(), node.slots.end(), slot) == node.slots.end())
      return InvalidArgument(fmt::format("host '{}' has no slot {}: it has {}", node.host, slot,
                                         FormatNumbers(node.slots)));
  }
  return OkStatus();
}

std::string HostsOf(const Layout& layout) {
  std::string text;
  for (const NodeSlots& node : layout) text += (text.empty() ? "" : ", ") + node.host;
  return text;
}

}  // namespace

Result<Layout> ParseHostfile(std::string_view text, const std::string& name) {
  Layout layout;
  std::map<std::string, size_t> line_of;
  size_t number = 0;
  for (std::string_view line : Split(text, '\n')) {
    ++number;
    const std::vector<std::string_view> words = Words(line.substr(0, line.find('#')));
    if (words.empty()) continue;
    const std::string place = fmt::format("{}:{}", name, number);
    Result<NodeSlots> node = ParseLine(words);
    if (!node.ok()) return node.status().With(place);
    auto [earlier, is_new] = line_of.insert({node->host, number});
    if (!is_new) {
      return InvalidArgument(
          fmt::format("{}: host '{}' stands in line {} already: give it one line "
                      "with all its slots",
                      place, node->host, earlier->second));
    }
    layout.push_back(*std::move(node));
  }
  if (layout.empty())
    return InvalidArgument(fmt::format("{}: names no host; write lines 'worker-0 slots=8'", name));
  return layout;
}

Result<Layout> ReadHostfile(const std::string& path) {
  constexpr uint64_t kLimitBytes = 16 << 20;
  STRATA_ASSIGN_OR_RETURN(std::string text, aio::ReadSmallFile(path, kLimitBytes));
  return ParseHostfile(text, path);
}

Result<Layout> FilterLayout(const Layout& layout, Filter filter, std::string_view spec) {
  const std::string option = filter == Filter::kInclude ? "--include" : "--exclude";
  std::map<std::string, std::set<uint32_t>> kept;
  if (filter == Filter::kExclude) {
    for (const NodeSlots& node : layout)
      kept[node.host] = std::set(node.slots.begin(), node.slots.end());
  }
  for (std::string_view part : Split(spec, '@')) {
    STRATA_ASSIGN_OR_RETURN(const NodeSpec one, ParseNodeSpec(part).With(option));
    const auto node = std::find_if(layout.begin(), layout.end(),
                                   [&](const NodeSlots& each) { return each.host == one.host; });
    if (node == layout.end()) {
      return InvalidArgument(fmt::format("{}: host '{}' is not in the hostfile, which has {}",
                                         option, one.host, HostsOf(layout)));
    }
    const std::vector<uint32_t> slots = one.slots.value_or(node->slots);
    STRATA_RETURN_IF_ERROR(CheckSlots(*node, slots).With(option));
    for (uint32_t slot : slots) {
      if (filter == Filter::kInclude) {
        kept[one.host].insert(slot);
      } else {
        kept[one.host].erase(slot);
      }
    }
  }
  Layout filtered;
  for (const NodeSlots& node : layout) {
    auto slots = kept.find(node.host);
    if (slots != kept.end() && !slots->second.empty())
      filtered.push_back({node.host, node.num_slots, {slots->second.begin(), slots->second.end()}});
  }
  if (filtered.empty()) return InvalidArgument(fmt::format("{} {} leaves no slot", option, spec));
  return filtered;
}

Result<Layout> Shrink(const Layout& layout, std::optional<uint32_t> num_nodes,
                      std::optional<uint32_t> num_slots) {
  Layout shrunk = layout;
  if (num_nodes) {
    if (*num_nodes > layout.size()) {
      return InvalidArgument(fmt::format("--nnodes {}: the hostfile has {}: {}", *num_nodes,
                                         layout.size(), HostsOf(layout)));
    }
    shrunk.resize(*num_nodes);
  }
  if (!num_slots) return shrunk;
  for (NodeSlots& node : shrunk) {
    if (*num_slots > node.slots.size()) {
      return InvalidArgument(fmt::format("--nproc-per-node {}: host '{}' has {} slots", *num_slots,
                                         node.host, node.slots.size()));
    }
    node.slots.resize(*num_slots);
  }
  return shrunk;
}

}  // namespace strata::launch
