#include "engine/comm/rank_environment.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cstdlib>
#include <limits>
#include <string_view>

namespace strata::engine {
namespace {

// Of one launcher; nullptr where it sets no such variable.
struct Names {
  const char* rank;
  const char* world_size;
  const char* local_rank;
  const char* local_size;
  const char* node;
  const char* only_with;  // set wherever the others mean what they say
};

constexpr std::array kLaunchers = {
    Names{"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK", nullptr},
    Names{"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
          "OMPI_COMM_WORLD_LOCAL_SIZE", nullptr, nullptr},
    Names{"PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS", nullptr, nullptr},
    Names{"SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", nullptr, "SLURM_NODEID",
          "SLURM_STEP_ID"},
};

std::optional<std::string_view> Value(const char* name) {
  const char* text = name == nullptr ? nullptr : std::getenv(name);
  if (text == nullptr || *text == '\0') return std::nullopt;
  return text;
}

Result<uint32_t> Number(std::string_view text, std::string_view name, std::string_view value) {
  uint32_t number = 0;
  const char* end = text.data() + text.size();
  auto [stop, error] = std::from_chars(text.data(), end, number);
  if (error == std::errc() && stop == end) return number;
  return InvalidArgument(
      fmt::format("environment variable {}='{}' is not a number of ranks; unset it", name, value));
}

Result<std::optional<uint32_t>> Read(const char* name) {
  const std::optional<std::string_view> text = Value(name);
  if (!text) return std::optional<uint32_t>();
  STRATA_ASSIGN_OR_RETURN(const uint32_t number, Number(*text, name, *text));
  return std::optional(number);
}

// Slurm's "4(x2),3": tasks on each node, runs of equal numbers folded.
Result<std::optional<uint32_t>> SlurmLocalSize(std::optional<uint32_t> node) {
  constexpr const char* kName = "SLURM_STEP_TASKS_PER_NODE";
  const std::optional<std::string_view> text = Value(kName);
  if (!text || !node) return std::optional<uint32_t>();
  uint64_t nodes_before = 0;
  for (std::string_view rest = *text; !rest.empty();) {
    const std::string_view run = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(rest.size(), run.size() + 1));
    const size_t bracket = run.find("(x");
    STRATA_ASSIGN_OR_RETURN(const uint32_t tasks, Number(run.substr(0, bracket), kName, *text));
    uint32_t times = 1;
    if (bracket != run.npos) {
      if (run.back() != ')') return Number(run, kName, *text).status();
      STRATA_ASSIGN_OR_RETURN(
          times, Number(run.substr(bracket + 2, run.size() - bracket - 3), kName, *text));
    }
    nodes_before += times;
    if (*node < nodes_before) return std::optional(tasks);
  }
  return std::optional<uint32_t>();
}

// The first launcher that says who we are; else the first that says half of it, for the message.
const Names* FindLauncher() {
  const Names* half = nullptr;
  for (const Names& names : kLaunchers) {
    if (names.only_with != nullptr && !Value(names.only_with)) continue;
    const bool has_rank = Value(names.rank).has_value();
    const bool has_size = Value(names.world_size).has_value();
    if (has_rank && has_size) return &names;
    if ((has_rank || has_size) && half == nullptr) half = &names;
  }
  return half;
}

Status Place(const Names& names, RankEnvironment* environment) {
  STRATA_ASSIGN_OR_RETURN(const std::optional<uint32_t> rank, Read(names.rank));
  STRATA_ASSIGN_OR_RETURN(const std::optional<uint32_t> size, Read(names.world_size));
  environment->rank = rank.value_or(0);
  environment->world_size = size.value_or(1);
  if (size) environment->world_size_variable = names.world_size;
  if (environment->rank < environment->world_size && (rank || environment->world_size == 1))
    return OkStatus();
  const auto shown = [](std::optional<uint32_t> value) {
    return value ? fmt::format("={}", *value) : " is not set";
  };
  return InvalidArgument(
      fmt::format("the environment does not say which rank this is: {}{}, {}{}: set both, or "
                  "unset both",
                  names.rank, shown(rank), names.world_size, shown(size)));
}

Status PlaceInNode(const Names& names, RankEnvironment* environment) {
  STRATA_ASSIGN_OR_RETURN(environment->local_rank, Read(names.local_rank));
  STRATA_ASSIGN_OR_RETURN(environment->node, Read(names.node));
  if (&names == &kLaunchers.front() && !environment->node) {
    STRATA_ASSIGN_OR_RETURN(environment->node, Read("GROUP_RANK"));
  }
  const bool is_slurm = &names == &kLaunchers.back();
  Result<std::optional<uint32_t>> local_size =
      is_slurm ? SlurmLocalSize(environment->node) : Read(names.local_size);
  if (!local_size.ok()) return local_size.status();
  environment->local_size = *local_size;
  if (!environment->local_rank || !environment->local_size) return OkStatus();
  if (*environment->local_rank < *environment->local_size) return OkStatus();
  return InvalidArgument(
      fmt::format("the environment says {}={} of {} ranks on this node; unset it", names.local_rank,
                  *environment->local_rank, *environment->local_size));
}

// 0 when unset.
Result<uint16_t> ReadPort(const char* name) {
  STRATA_ASSIGN_OR_RETURN(const std::optional<uint32_t> port, Read(name));
  if (port.value_or(0) > std::numeric_limits<uint16_t>::max()) {
    return InvalidArgument(
        fmt::format("environment variable {}={} is not a port; unset it", name, *port));
  }
  return static_cast<uint16_t>(port.value_or(0));
}

Status FindMaster(RankEnvironment* environment) {
  environment->master_addr = Value("MASTER_ADDR").value_or("");
  STRATA_ASSIGN_OR_RETURN(environment->master_port, ReadPort("MASTER_PORT"));
  STRATA_ASSIGN_OR_RETURN(const uint16_t own, ReadPort("STRATA_MASTER_PORT"));
  if (own != 0) environment->control_port = own;
  if (own != 0 || environment->master_port == 0) return OkStatus();
  if (environment->master_port == std::numeric_limits<uint16_t>::max())
    return InvalidArgument("no port follows MASTER_PORT=65535: set STRATA_MASTER_PORT");
  environment->control_port = static_cast<uint16_t>(environment->master_port + 1);
  return OkStatus();
}

bool IsUnderMpi() {
  return Value("PMIX_RANK") || Value("OMPI_COMM_WORLD_RANK") || Value("PMI_RANK");
}

}  // namespace

Result<RankEnvironment> ReadRankEnvironment() {
  RankEnvironment environment;
  if (const Names* launcher = FindLauncher(); launcher != nullptr) {
    STRATA_RETURN_IF_ERROR(Place(*launcher, &environment));
    STRATA_RETURN_IF_ERROR(PlaceInNode(*launcher, &environment));
  }
  STRATA_RETURN_IF_ERROR(FindMaster(&environment));
  environment.is_under_mpi = IsUnderMpi();
  return environment;
}

}  // namespace strata::engine
