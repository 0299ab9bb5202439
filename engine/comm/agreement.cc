#include "engine/comm/agreement.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <vector>

namespace strata::engine {
namespace {

// Of one rank; empty when it has what rank 0 has.
using Difference = std::array<char, 256>;

std::string_view CutLine(std::string_view* text) {
  const std::string_view line = text->substr(0, text->find('\n'));
  text->remove_prefix(std::min(text->size(), line.size() + 1));
  return line;
}

std::string Shown(std::string_view line) {
  return line.empty() ? "nothing" : fmt::format("'{}'", line.substr(0, 60));
}

std::string FirstDifference(std::string_view here, std::string_view there, uint32_t rank) {
  std::string_view section;
  while (!here.empty() || !there.empty()) {
    const std::string_view mine = CutLine(&here);
    const std::string_view theirs = CutLine(&there);
    if (mine == theirs && mine.starts_with('[')) section = mine;
    if (mine == theirs) continue;
    return fmt::format("{}{}{} on rank {}, {} on rank 0", section, section.empty() ? "" : " ",
                       Shown(mine), rank, Shown(theirs));
  }
  return "";
}

Result<std::string> TextOfRank0(Communicator& communicator, std::string_view text) {
  Channel& channel = communicator.channel(ChannelId::kControl);
  uint64_t size_bytes = text.size();
  STRATA_RETURN_IF_ERROR(channel.Broadcast(std::as_writable_bytes(std::span(&size_bytes, 1)), 0));
  std::string of_rank_0(size_bytes, '\0');
  if (communicator.rank() == 0) of_rank_0 = text;
  STRATA_RETURN_IF_ERROR(channel.Broadcast(std::as_writable_bytes(std::span(of_rank_0)), 0));
  return of_rank_0;
}

}  // namespace

Status CheckSameOnAllRanks(Communicator& communicator, std::string_view what,
                           std::string_view text) {
  STRATA_ASSIGN_OR_RETURN(const std::string of_rank_0, TextOfRank0(communicator, text));
  const std::string found = FirstDifference(text, of_rank_0, communicator.rank());
  Difference mine = {};
  std::copy_n(found.begin(), std::min(found.size(), mine.size() - 1), mine.begin());
  std::vector<Difference> all(communicator.world_size());
  STRATA_RETURN_IF_ERROR(
      communicator.channel(ChannelId::kControl)
          .AllGather(std::as_bytes(std::span(mine)), std::as_writable_bytes(std::span(all))));
  for (const Difference& difference : all) {
    if (difference.front() == '\0') continue;
    return FailedPrecondition(fmt::format(
        "{} differs between ranks: {}: start all ranks with the same", what, difference.data()));
  }
  return OkStatus();
}

}  // namespace strata::engine
