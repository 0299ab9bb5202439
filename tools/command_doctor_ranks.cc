// strata doctor --ranks: whether the ranks of a job find each other, and how fast they talk: in
// host memory, or in that of their GPUs, as the run would.
#include <fmt/format.h>
#include <sched.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

#include "aio/base/units.h"
#include "engine/comm/communicator.h"
#include "engine/config/run_config.h"
#include "engine/train/ranks.h"
#include "engine/train/run_device.h"
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
  double memcpy_s = 0;  // 0: not measured
};

// Memory of the run's device, of which all payloads are.
class Payloads {
 public:
  static Result<Payloads> Create(Communicator& communicator, const engine::DeviceChoice& choice,
                                 uint64_t size_bytes) {
    Payloads payloads;
    const engine::LocalRank local{communicator.local_rank(), communicator.local_size()};
    const Result<engine::ChosenDevice> chosen = engine::ChooseDevice(choice, local);
    STRATA_RETURN_IF_ERROR(engine::AgreeOn(communicator, chosen.status()));
    payloads.is_on_gpu_ = chosen->device.kind == engine::DeviceChoice::Kind::kCuda;
    STRATA_RETURN_IF_ERROR(engine::CheckSame(communicator, "the kind of device",
                                             payloads.is_on_gpu_ ? "cuda" : "cpu"));
    Result<std::unique_ptr<tiering::Device>> device =
        engine::CreateDevice(chosen->device, size_bytes, aio::Sharing::kShared);
    STRATA_RETURN_IF_ERROR(engine::AgreeOn(communicator, device.status()));
    payloads.device_ = *std::move(device);
    STRATA_RETURN_IF_ERROR(
        communicator.ShareMemory(payloads.memory(), payloads.device_->memory_fd()));
    if (!payloads.is_on_gpu_) return payloads;
    STRATA_RETURN_IF_ERROR(communicator.UseGpu({.device = static_cast<int>(*chosen->device.gpu)}));
    payloads.stream_ = payloads.device_->CreateStream("comm");
    return payloads;
  }

  bool is_on_gpu() const { return is_on_gpu_; }
  std::span<std::byte> memory() const { return device_->memory(); }
  // Until it is over.
  Status Run(const std::function<Status(const tiering::StreamContext&)>& collective) const {
    if (!is_on_gpu_) return collective({});
    stream_->Launch(collective);
    return stream_->Record().Wait();
  }

 private:
  bool is_on_gpu_ = false;
  std::unique_ptr<tiering::Device> device_;
  std::unique_ptr<tiering::DeviceStream> stream_;  // of a GPU
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

Result<Speed> MeasureSize(Communicator& communicator, const Payloads& payloads,
                          uint64_t size_bytes) {
  using Stream = tiering::StreamContext;
  const uint32_t ranks = communicator.world_size();
  const uint64_t shard_bytes = size_bytes / ranks / sizeof(float) * sizeof(float);
  const std::span<std::byte> whole = payloads.memory().first(shard_bytes * ranks);
  const std::span<std::byte> other = payloads.memory().last(shard_bytes * ranks);
  const std::span<std::byte> shard = other.first(shard_bytes);
  Channel& channel = communicator.channel(ChannelId::kCommLane);
  const auto seconds_of = [&](const std::function<Status(const Stream&)>& collective) {
    return SecondsOf(channel, [&] { return payloads.Run(collective); });
  };
  constexpr engine::DType kType = engine::DType::kF32;
  Speed speed{.size_bytes = size_bytes};
  STRATA_ASSIGN_OR_RETURN(speed.all_gather_s, seconds_of([&](const Stream& stream) {
                            return channel.AllGather(stream, shard, whole);
                          }));
  STRATA_ASSIGN_OR_RETURN(speed.reduce_scatter_s, seconds_of([&](const Stream& stream) {
                            return channel.ReduceScatter(stream, whole, shard, kType);
                          }));
  STRATA_ASSIGN_OR_RETURN(speed.all_reduce_s, seconds_of([&](const Stream& stream) {
                            return channel.AllReduce(stream, whole, kType);
                          }));
  STRATA_ASSIGN_OR_RETURN(speed.broadcast_s, seconds_of([&](const Stream& stream) {
                            return channel.Broadcast(stream, whole, 0);
                          }));
  if (payloads.is_on_gpu()) return speed;
  STRATA_ASSIGN_OR_RETURN(speed.memcpy_s, seconds_of([&](const Stream&) {
                            std::memcpy(other.data(), whole.data(), whole.size());
                            return OkStatus();
                          }));
  return speed;
}

Result<std::vector<Speed>> MeasureSpeeds(Communicator& communicator,
                                         const engine::DeviceChoice& choice) {
  const uint64_t largest = kSizes[std::size(kSizes) - 1];
  STRATA_ASSIGN_OR_RETURN(const Payloads payloads,
                          Payloads::Create(communicator, choice, 2 * largest));
  std::vector<Speed> speeds;
  for (const uint64_t size_bytes : kSizes) {
    STRATA_ASSIGN_OR_RETURN(const Speed speed, MeasureSize(communicator, payloads, size_bytes));
    speeds.push_back(speed);
  }
  communicator.UnshareMemory(payloads.memory());
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
      if (seconds == 0) return std::string("-");
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
    nlohmann::json& one = json["collectives"].emplace_back(
        nlohmann::json{{"bytes", speed.size_bytes},
                       {"all_gather_s", speed.all_gather_s},
                       {"reduce_scatter_s", speed.reduce_scatter_s},
                       {"all_reduce_s", speed.all_reduce_s},
                       {"broadcast_s", speed.broadcast_s}});
    if (speed.memcpy_s > 0) one["memcpy_s"] = speed.memcpy_s;
  }
  Print("{}\n", json.dump());
}

Status Run(const DoctorArguments& arguments) {
  STRATA_ASSIGN_OR_RETURN(const engine::RankEnvironment environment, engine::ReadRankEnvironment());
  STRATA_ASSIGN_OR_RETURN(const std::unique_ptr<Communicator> communicator,
                          engine::MakeCommunicator(environment, {.deadline = arguments.timeout}));
  STRATA_RETURN_IF_ERROR(engine::CheckSame(
      *communicator, "the program", fmt::format("{} {} {}", kVersion, kCompiler, kBuildType)));
  engine::DeviceChoice device;
  if (!arguments.config.empty()) {
    const Result<engine::RunConfig> config =
        engine::LoadRunConfig(arguments.config, arguments.sets);
    STRATA_RETURN_IF_ERROR(engine::AgreeOn(*communicator, config.status()));
    STRATA_RETURN_IF_ERROR(
        engine::CheckSame(*communicator, "the configuration", engine::ToToml(*config)));
    device = config->train.device;
  }
  STRATA_ASSIGN_OR_RETURN(const std::vector<RankFacts> facts, GatherFacts(*communicator));
  STRATA_ASSIGN_OR_RETURN(const std::vector<Speed> speeds, MeasureSpeeds(*communicator, device));
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
