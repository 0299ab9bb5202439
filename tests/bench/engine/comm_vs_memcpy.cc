// Collectives beside plain copies of as many bytes, round by round in one job: what part of the
// speed that memory allows does talking to the other ranks leave?
//
//   mpirun -n 2 comm_vs_memcpy --plugin FILE [--mib N] [--rounds N] [--json]
//
// Of a collective of N MiB, every rank has N MiB in the end (all-gather) or at the start
// (reduce-scatter, fp32). The plain copy is memcpy() of N MiB by every rank at once, between huge
// pages of its own. A fraction of 1 is a collective that takes as long. `streamed` is the copy that
// the collectives themselves use, past the caches; `staged` are payloads in memory that ranks do
// not share.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <iostream>
#include <optional>
#include <string>
#include <vector>

#include "aio/base/units.h"
#include "aio/io_buffer.h"
#include "engine/comm/communicator.h"
#include "engine/comm/internal/reduce.h"

namespace strata::engine {
namespace {

struct Arguments {
  std::string plugin;
  uint64_t size_bytes = 64_MiB;
  uint64_t rounds = 21;
  bool json = false;
};

std::optional<Arguments> Parse(const std::vector<std::string>& words) {
  Arguments arguments;
  for (size_t i = 0; i < words.size(); ++i) {
    const bool has_value = i + 1 < words.size();
    if (words[i] == "--json") {
      arguments.json = true;
    } else if (words[i] == "--plugin" && has_value) {
      arguments.plugin = words[++i];
    } else if (words[i] == "--mib" && has_value) {
      arguments.size_bytes = std::strtoull(words[++i].c_str(), nullptr, 10) << 20;
    } else if (words[i] == "--rounds" && has_value) {
      arguments.rounds = std::strtoull(words[++i].c_str(), nullptr, 10);
    } else {
      return std::nullopt;
    }
  }
  return arguments.size_bytes > 0 && arguments.rounds > 0 ? std::optional(arguments) : std::nullopt;
}

// Two pieces of memory, the size of the payload each, written once.
struct Payload {
  explicit Payload(uint64_t size_bytes, aio::Sharing sharing)
      : memory(aio::HugeMemory::Map(2 * size_bytes, sharing).value()) {
    std::memset(memory.bytes().data(), 1, memory.bytes().size());
    whole = memory.bytes().first(size_bytes);
    other = memory.bytes().last(size_bytes);
  }
  aio::HugeMemory memory;
  std::span<std::byte> whole;
  std::span<std::byte> other;
};

struct Contestant {
  std::string name;
  std::function<Status()> run;
  std::vector<double> seconds = {};
};

void CheckOk(const Status& status) {
  if (status.ok()) return;
  std::cerr << status.ToString() << "\n";
  std::exit(1);
}

std::vector<Contestant> Contestants(Channel& channel, uint64_t shard_bytes, const Payload& shared,
                                    const Payload& own) {
  const auto copy = [&own](Writes writes) {
    return [&own, writes] {
      BestReduceKernels().copy(own.other.data(), own.whole.data(), own.whole.size(), writes);
      return OkStatus();
    };
  };
  const auto gather = [&channel, shard_bytes](const Payload& payload) {
    return [&channel, &payload, shard_bytes] {
      return channel.AllGather(payload.other.first(shard_bytes), payload.whole);
    };
  };
  const auto reduce = [&channel, shard_bytes](const Payload& payload, DType dtype) {
    return [&channel, &payload, shard_bytes, dtype] {
      return channel.ReduceScatter(payload.whole, payload.other.first(shard_bytes), dtype);
    };
  };
  return {{"memcpy", copy(Writes::kThroughCaches)},
          {"streamed", copy(Writes::kPastCaches)},
          {"all_gather", gather(shared)},
          {"reduce_scatter", reduce(shared, DType::kF32)},
          {"reduce_scatter_bf16", reduce(shared, DType::kBf16)},
          {"all_gather_staged", gather(own)},
          {"reduce_scatter_staged", reduce(own, DType::kF32)}};
}

double Median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// Between two barriers, so until the last rank is done.
void Measure(Channel& channel, Contestant& contestant) {
  CheckOk(channel.Barrier());
  const auto begin = std::chrono::steady_clock::now();
  CheckOk(contestant.run());
  CheckOk(channel.Barrier());
  contestant.seconds.push_back(
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
}

void Show(const std::vector<Contestant>& contestants, const Arguments& arguments, uint32_t ranks) {
  const auto size = static_cast<double>(arguments.size_bytes);
  std::string json;
  for (const Contestant& contestant : contestants) {
    std::vector<double> fractions;
    for (size_t round = 1; round < contestant.seconds.size(); ++round)  // the first warms up
      fractions.push_back(contestants.front().seconds[round] / contestant.seconds[round]);
    const double gb_per_s = size / Median(contestant.seconds) / 1e9;
    json += fmt::format(",\"{}\":{{\"fraction\":{:.4f},\"gb_per_s\":{:.3f}}}", contestant.name,
                        Median(fractions), gb_per_s);
    if (arguments.json) continue;
    fmt::print("{:22} {:6.2f} GB/s per rank  {:.2f} x memcpy\n", contestant.name, gb_per_s,
               Median(fractions));
  }
  if (arguments.json)
    fmt::print("{{\"ranks\":{},\"bytes\":{}{}}}\n", ranks, arguments.size_bytes, json);
}

int Main(const std::vector<std::string>& words) {
  const std::optional<Arguments> arguments = Parse(words);
  if (!arguments) {
    std::cerr
        << "usage: mpirun -n N comm_vs_memcpy --plugin FILE [--mib N] [--rounds N] [--json]\n";
    return 2;
  }
  Result<RankEnvironment> environment = ReadRankEnvironment();
  CheckOk(environment.status());
  Result<std::unique_ptr<Communicator>> communicator =
      MakeCommunicator(*environment, {.plugin = arguments->plugin});
  CheckOk(communicator.status());
  const uint32_t ranks = (*communicator)->world_size();
  const uint64_t shard_bytes = arguments->size_bytes / ranks;
  const Payload shared(shard_bytes * ranks, aio::Sharing::kShared);
  const Payload own(shard_bytes * ranks, aio::Sharing::kPrivate);
  CheckOk((*communicator)->ShareMemory(shared.memory.bytes(), shared.memory.fd()));
  Channel& channel = (*communicator)->channel(ChannelId::kCommLane);
  std::vector<Contestant> contestants = Contestants(channel, shard_bytes, shared, own);
  for (uint64_t round = 0; round < arguments->rounds + 1; ++round)
    for (Contestant& contestant : contestants) Measure(channel, contestant);
  if ((*communicator)->rank() == 0) Show(contestants, *arguments, ranks);
  (*communicator)->UnshareMemory(shared.memory.bytes());
  return 0;
}

}  // namespace
}  // namespace strata::engine

int main(int argc, char** argv) { return strata::engine::Main({argv + 1, argv + argc}); }
