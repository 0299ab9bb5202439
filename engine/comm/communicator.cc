#include "engine/comm/communicator.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string_view>

namespace strata::engine {
namespace {

class SelfCommunicator final : public Communicator {
 public:
  uint32_t rank() const override { return 0; }
  uint32_t world_size() const override { return 1; }

  Status AllGather(std::span<const std::byte> shard, std::span<std::byte> whole) override {
    STRATA_CHECK(shard.size() == whole.size());
    if (!shard.empty()) std::memmove(whole.data(), shard.data(), shard.size());
    return OkStatus();
  }

  Status ReduceScatter(std::span<const float> whole, std::span<float> shard) override {
    STRATA_CHECK(shard.size() == whole.size());
    if (!shard.empty()) std::memmove(shard.data(), whole.data(), shard.size_bytes());
    return OkStatus();
  }

  Status AllReduceSum(std::span<double>) override { return OkStatus(); }
};

// The first of these variables that is set, as a number.
struct Variable {
  std::string name = {};
  uint32_t value = 0;
};
Result<std::optional<Variable>> FirstSet(std::span<const char* const> names) {
  for (const char* name : names) {
    const char* text = std::getenv(name);
    if (text == nullptr || *text == '\0') continue;
    uint32_t number = 0;
    const char* end = text + std::strlen(text);
    auto [stop, error] = std::from_chars(text, end, number);
    if (error != std::errc() || stop != end) {
      return InvalidArgument(
          fmt::format("environment variable {}='{}' is not a rank count; unset it", name, text));
    }
    return std::optional<Variable>({name, number});
  }
  return std::optional<Variable>();
}

constexpr std::array kRankNames = {"RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID"};
constexpr std::array kSizeNames = {"WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE",
                                   "SLURM_NTASKS"};

}  // namespace

std::unique_ptr<Communicator> MakeSelfCommunicator() {
  return std::make_unique<SelfCommunicator>();
}

Result<RankEnvironment> ReadRankEnvironment() {
  STRATA_ASSIGN_OR_RETURN(std::optional<Variable> rank, FirstSet(kRankNames));
  STRATA_ASSIGN_OR_RETURN(std::optional<Variable> size, FirstSet(kSizeNames));
  RankEnvironment environment;
  if (rank) environment.rank = rank->value;
  if (size) environment.world_size = size->value;
  if (size) environment.world_size_variable = size->name;
  if (environment.rank >= environment.world_size) {
    return InvalidArgument(
        fmt::format("the environment says rank {} of a world of {}; set RANK and WORLD_SIZE, or "
                    "unset both",
                    environment.rank, environment.world_size));
  }
  return environment;
}

Result<std::unique_ptr<Communicator>> MakeCommunicator(const RankEnvironment& environment) {
  if (environment.world_size != 1) {
    return Unimplemented(fmt::format(
        "{}={} asks for {} ranks, but this version trains on one: unset it, or look at "
        "the job with 'strata plan'",
        environment.world_size_variable, environment.world_size, environment.world_size));
  }
  return MakeSelfCommunicator();
}

}  // namespace strata::engine
