// strata doctor --ranks: whether the ranks of a job find each other, and how fast they talk.
#include <fmt/format.h>
#include <sched.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <functional>
#include <nlohmann/json.hpp>
#include <vector>

#include "aio/base/units.h"
#include "aio/io_buffer.h"
#include "engine/comm/communicator.h"
#include "engine/config/run_config.h"
#include "engine/train/ranks.h"
#include "tools/build_info.h"
#include "tools/commands.h"
#include "tools/print.h"
#include "tools/table.h"

namespace strata::tools {
namespace {

using engine::Channel;
using engine::ChannelId;
using engine::Communicator;

constexpr int kRounds = 7;
constexpr uint64_t kSizes[] = {4_KiB, 64_KiB, 1_MiB, 16_MiB, 64_MiB};

struct RankFacts {
  std::array<char, 64> host = {};
  uint32_t node = 0;
  int32_t process = 0;
  uint32_t num_cores = 0;
  int64_t clock_ns = 0;  // when all have left a barrier
};

// How long one collective takes at one size, and what a copy takes.
struct Speed {
  uint64_t size_bytes = 0;
  double all_gather_s = 0;
  double reduce_scatter_s = 0;
  double all_reduce_s = 0;
  double broadcast_s = 0;
  double memcpy_s = 0;
};

int64_t WallClockNs() {
  timespec now{};
  STRATA_CHECK(clock_gettime(CLOCK_REALTIME, &now) == 0);
  return now.tv_sec * int64_t{1'000'000'000} + now.tv_nsec;
}

Result<std::vector<RankFacts>> GatherFacts(Communicator& communicator) {
  RankFacts mine;
  if (gethostname(mine.host.data(), mine.host.size() - 1) != 0) mine.host = {"unknown"};
  mine.node = communicator.node();
  mine.process = getpid();
  cpu_set_t cores;
  CPU_ZERO(&cores);
  if (sched_getaffinity(0, sizeof(cores), &cores) == 0)
    mine.num_cores = static_cast<uint32_t>(CPU_COUNT(&cores));
  Channel& channel = communicator.channel(ChannelId::kControl);
  STRATA_RETURN_IF_ERROR(channel.Barrier());
  mine.clock_ns = WallClockNs();
  std::vector<RankFacts> all(communicator.world_size());
  STRATA_RETURN_IF_ERROR(channel.AllGather(std::as_bytes(std::span(&mine, 1)),
                                           std::as_writable_bytes(std::span(all))));
  return all;
}

// The median over rounds; a round ends when the last rank is done.
Result<double> SecondsOf(Channel& channel, const std::function<Status()>& run) {
  std::vector<double> seconds;
  for (int round = 0; round < kRounds; ++round) {
    STRATA_RETURN_IF_ERROR(channel.Barrier());
    const auto begin = std::chrono::steady_clock::now();
    STRATA_RETURN_IF_ERROR(run());
    STRATA_RETURN_IF_ERROR(channel.Barrier());
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    seconds.push_back(took.count());
  }
  std::nth_element(seconds.begin(), seconds.begin() + kRounds / 2, seconds.end());
  return seconds[kRounds / 2];
}

Result<Speed> MeasureSize(Communicator& communicator, std::span<std::byte> memory,
                          uint64_t size_bytes) {
  const uint32_t ranks = communicator.world_size();
  const uint64_t shard_bytes = size_bytes / ranks / sizeof(float) * sizeof(float);
  const std::span<std::byte> whole = memory.first(shard_bytes * ranks);
  const std::span<std::byte> other = memory.last(shard_bytes * ranks);
  const std::span<std::byte> shard = other.first(shard_bytes);
  Channel& channel = communicator.channel(ChannelId::kCommLane);
  Speed speed{.size_bytes = size_bytes};
  STRATA_ASSIGN_OR_RETURN(speed.all_gather_s,
                          SecondsOf(channel, [&] { return channel.AllGather(shard, whole); }));
  STRATA_ASSIGN_OR_RETURN(speed.reduce_scatter_s, SecondsOf(channel, [&] {
                            return channel.ReduceScatter(whole, shard, engine::DType::kF32);
                          }));
  STRATA_ASSIGN_OR_RETURN(speed.all_reduce_s, SecondsOf(channel, [&] {
                            return channel.AllReduce(whole, engine::DType::kF32);
                          }));
  STRATA_ASSIGN_OR_RETURN(speed.broadcast_s,
                          SecondsOf(channel, [&] { return channel.Broadcast(whole, 0); }));
  STRATA_ASSIGN_OR_RETURN(speed.memcpy_s, SecondsOf(channel, [&] {
                            std::memcpy(other.data(), whole.data(), whole.size());
                            return OkStatus();
                          }));
  return speed;
}

Result<std::vector<Speed>> MeasureSpeeds(Communicator& communicator) {
  const uint64_t largest = kSizes[std::size(kSizes) - 1];
  STRATA_ASSIGN_OR_RETURN(const aio::HugeMemory memory,
                          aio::HugeMemory::Map(2 * largest, aio::Sharing::kShared));
  STRATA_RETURN_IF_ERROR(communicator.ShareMemory(memory.bytes(), memory.fd()));
  std::vector<Speed> speeds;
  for (const uint64_t size_bytes : kSizes) {
    STRATA_ASSIGN_OR_RETURN(const Speed speed,
                            MeasureSize(communicator, memory.bytes(), size_bytes));
    speeds.push_back(speed);
  }
  communicator.UnshareMemory(memory.bytes());
  return speeds;
}

double MicrosecondsBehind(const RankFacts& rank, const RankFacts& first) {
  return static_cast<double>(rank.clock_ns - first.clock_ns) / 1e3;
}

void ShowText(const Communicator& communicator, const std::vector<RankFacts>& facts,
              const std::vector<Speed>& speeds) {
  Table ranks({{"rank", Align::kRight},
               {"node", Align::kRight},
               {"host"},
               {"pid", Align::kRight},
               {"cores", Align::kRight},
               {"clock against rank 0", Align::kRight}});
  for (size_t rank = 0; rank < facts.size(); ++rank) {
    const RankFacts& one = facts[rank];
    ranks.AddRow({fmt::format("{}", rank), fmt::format("{}", one.node), one.host.data(),
                  fmt::format("{}", one.process), fmt::format("{}", one.num_cores),
                  fmt::format("{:+.0f} us", MicrosecondsBehind(one, facts.front()))});
  }
  Table table({{"GB/s per rank"},
               {"all-gather", Align::kRight},
               {"reduce-scatter", Align::kRight},
               {"all-reduce", Align::kRight},
               {"broadcast", Align::kRight},
               {"memory copy", Align::kRight}});
  for (const Speed& speed : speeds) {
    const auto shown = [&](double seconds) {
      return fmt::format("{:.2f}", static_cast<double>(speed.size_bytes) / seconds / 1e9);
    };
    table.AddRow({FormatBytes(speed.size_bytes), shown(speed.all_gather_s),
                  shown(speed.reduce_scatter_s), shown(speed.all_reduce_s),
                  shown(speed.broadcast_s), shown(speed.memcpy_s)});
  }
  Print("{}\n\n{}\n{}", communicator.description(), ranks.ToString(), table.ToString());
}

void ShowJson(const Communicator& communicator, const std::vector<RankFacts>& facts,
              const std::vector<Speed>& speeds) {
  nlohmann::json json{{"transport", communicator.description()},
                      {"ranks", nlohmann::json::array()},
                      {"collectives", nlohmann::json::array()}};
  for (const RankFacts& one : facts) {
    json["ranks"].push_back({{"node", one.node},
                             {"host", one.host.data()},
                             {"pid", one.process},
                             {"cores", one.num_cores},
                             {"clock_us", MicrosecondsBehind(one, facts.front())}});
  }
  for (const Speed& speed : speeds) {
    json["collectives"].push_back({{"bytes", speed.size_bytes},
                                   {"all_gather_s", speed.all_gather_s},
                                   {"reduce_scatter_s", speed.reduce_scatter_s},
                                   {"all_reduce_s", speed.all_reduce_s},
                                   {"broadcast_s", speed.broadcast_s},
                                   {"memcpy_s", speed.memcpy_s}});
  }
  Print("{}\n", json.dump());
}

Status Run(const DoctorArguments& arguments) {
  STRATA_ASSIGN_OR_RETURN(const engine::RankEnvironment environment, engine::ReadRankEnvironment());
  STRATA_ASSIGN_OR_RETURN(const std::unique_ptr<Communicator> communicator,
                          engine::MakeCommunicator(environment));
  STRATA_RETURN_IF_ERROR(engine::CheckSame(
      *communicator, "the program", fmt::format("{} {} {}", kVersion, kCompiler, kBuildType)));
  if (!arguments.config.empty()) {
    const Result<engine::RunConfig> config =
        engine::LoadRunConfig(arguments.config, arguments.sets);
    STRATA_RETURN_IF_ERROR(engine::AgreeOn(*communicator, config.status()));
    STRATA_RETURN_IF_ERROR(
        engine::CheckSame(*communicator, "the configuration", engine::ToToml(*config)));
  }
  STRATA_ASSIGN_OR_RETURN(const std::vector<RankFacts> facts, GatherFacts(*communicator));
  STRATA_ASSIGN_OR_RETURN(const std::vector<Speed> speeds, MeasureSpeeds(*communicator));
  if (communicator->rank() != 0) return OkStatus();
  arguments.json ? ShowJson(*communicator, facts, speeds) : ShowText(*communicator, facts, speeds);
  return CheckOutput();
}

}  // namespace

int DoctorRanks(const DoctorArguments& arguments) {
  const Status status = Run(arguments);
  return status.ok() ? kExitOk : Fail(status);
}

}  // namespace strata::tools
