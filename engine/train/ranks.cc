#include "engine/train/ranks.h"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <cstring>
#include <span>
#include <thread>

namespace strata::engine {
namespace {

std::span<std::byte> Bytes(std::string& text) { return std::as_writable_bytes(std::span(text)); }

bool IsAlone(const Communicator& communicator) { return communicator.world_size() == 1; }

// Each rank's text, by rank.
Result<std::vector<std::string>> TextsOf(Communicator& communicator, std::string_view mine) {
  Channel& channel = communicator.channel(ChannelId::kControl);
  const size_t world = communicator.world_size();
  uint64_t size = mine.size();
  std::vector<uint64_t> sizes(world);
  STRATA_RETURN_IF_ERROR(channel.AllGather(std::as_bytes(std::span(&size, 1)),
                                           std::as_writable_bytes(std::span(sizes))));
  const uint64_t longest = *std::max_element(sizes.begin(), sizes.end());
  std::vector<std::string> texts(world);
  if (longest == 0) return texts;
  std::string padded(mine);
  padded.resize(longest);
  std::string all(longest * world, 0);
  STRATA_RETURN_IF_ERROR(channel.AllGather(Bytes(padded), Bytes(all)));
  for (size_t rank = 0; rank < world; ++rank) texts[rank] = all.substr(rank * longest, sizes[rank]);
  return texts;
}

// The first line of `text` that is not in `of_zero` at the same place.
std::string FirstDifference(std::string_view of_zero, std::string_view text) {
  while (!of_zero.empty() || !text.empty()) {
    const std::string_view a = of_zero.substr(0, of_zero.find('\n'));
    const std::string_view b = text.substr(0, text.find('\n'));
    if (a != b) return fmt::format("rank 0 has '{}', this one '{}'", a, b);
    of_zero.remove_prefix(std::min(of_zero.size(), a.size() + 1));
    text.remove_prefix(std::min(text.size(), b.size() + 1));
  }
  return "they differ";
}

}  // namespace

uint64_t ThreadsPerRank(const Communicator& communicator) {
  const uint64_t online = std::max(1u, std::thread::hardware_concurrency());
  cpu_set_t cores;
  const bool is_known = sched_getaffinity(0, sizeof(cores), &cores) == 0;
  const uint64_t usable = is_known ? static_cast<uint64_t>(CPU_COUNT(&cores)) : online;
  return usable < online ? usable : std::max<uint64_t>(1, usable / communicator.local_size());
}

Status AgreeOn(Communicator& communicator, const Status& mine) {
  if (IsAlone(communicator)) return mine;
  std::string said;
  if (!mine.ok()) {
    said.push_back(static_cast<char>(mine.code()));
    said += mine.message();
  }
  Result<std::vector<std::string>> all = TextsOf(communicator, said);
  if (!mine.ok()) return mine;
  if (!all.ok()) return all.status();
  for (size_t rank = 0; rank < all->size(); ++rank) {
    const std::string& text = (*all)[rank];
    if (text.empty()) continue;
    return Status(static_cast<Code>(text.front()),
                  fmt::format("rank {}: {}", rank, text.substr(1)));
  }
  return OkStatus();
}

Status OnEachMachine(Communicator& communicator, const std::function<Status()>& what) {
  const bool is_zero = communicator.rank() == 0;
  STRATA_RETURN_IF_ERROR(AgreeOn(communicator, is_zero ? what() : OkStatus()));
  const bool is_other = !is_zero && communicator.local_rank() == 0;
  return AgreeOn(communicator, is_other ? what() : OkStatus());
}

Result<std::string> FromRankZero(Communicator& communicator, std::string_view text) {
  if (IsAlone(communicator)) return std::string(text);
  Channel& channel = communicator.channel(ChannelId::kControl);
  uint64_t size = text.size();
  STRATA_RETURN_IF_ERROR(channel.Broadcast(std::as_writable_bytes(std::span(&size, 1)), 0));
  std::string said = communicator.rank() == 0 ? std::string(text) : std::string(size, 0);
  if (size > 0) STRATA_RETURN_IF_ERROR(channel.Broadcast(Bytes(said), 0));
  return said;
}

Result<bool> OnAnyRank(Communicator& communicator, bool is_so) {
  if (IsAlone(communicator)) return is_so;
  double count = is_so ? 1 : 0;
  STRATA_RETURN_IF_ERROR(
      communicator.channel(ChannelId::kControl).AllReduceSum(std::span(&count, 1)));
  return count > 0;
}

Result<std::vector<std::vector<uint64_t>>> FromAllRanks(Communicator& communicator,
                                                        const std::vector<uint64_t>& numbers) {
  if (IsAlone(communicator)) return std::vector<std::vector<uint64_t>>{numbers};
  const std::string_view mine(reinterpret_cast<const char*>(numbers.data()),
                              numbers.size() * sizeof(uint64_t));
  STRATA_ASSIGN_OR_RETURN(std::vector<std::string> texts, TextsOf(communicator, mine));
  std::vector<std::vector<uint64_t>> all;
  for (const std::string& text : texts) {
    all.emplace_back(text.size() / sizeof(uint64_t));
    if (!text.empty()) std::memcpy(all.back().data(), text.data(), text.size());
  }
  return all;
}

Status CheckSame(Communicator& communicator, std::string_view what, std::string_view text) {
  STRATA_ASSIGN_OR_RETURN(std::string of_zero, FromRankZero(communicator, text));
  Status mine;
  if (of_zero != text) {
    mine = FailedPrecondition(
        fmt::format("{} must be the same on all ranks: {}", what, FirstDifference(of_zero, text)));
  }
  return AgreeOn(communicator, mine);
}

}  // namespace strata::engine
