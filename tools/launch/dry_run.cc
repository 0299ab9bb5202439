#include <fmt/format.h>

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <optional>

#include "aio/base/address.h"
#include "tools/launch/binding.h"
#include "tools/launch/commands.h"
#include "tools/launch/launcher.h"

namespace strata::launch {
namespace {

// What is made anew for each start stands as it is written for mktemp.
constexpr const char* kControl = "unix:/tmp/strata-launch-XXXXXX/control";

struct NodeCommand {
  std::string node;
  std::string what;
  Command command;
};

Command OwnCommand(const Job& job, uint32_t node_rank) {
  Command command;
  command.words = {job.strata,         "launch",
                   "--nnodes",         fmt::format("{}", job.layout.size()),
                   "--node-rank",      fmt::format("{}", node_rank),
                   "--nproc-per-node", fmt::format("{}", job.layout[0].slots.size()),
                   "--master-addr",    job.master_addr,
                   "--master-port",    fmt::format("{}", job.master_port)};
  if (job.comm == Comm::kTcp) command.words.insert(command.words.end(), {"--comm", "tcp"});
  command.words.push_back("--");
  command.words.insert(command.words.end(), job.command.begin() + 1, job.command.end());
  return command;
}

std::vector<NodeCommand> CommandsOf(const Job& job) {
  std::vector<NodeCommand> commands;
  if (job.start == Start::kPerNode) {
    for (uint32_t node = 0; node < job.layout.size(); ++node)
      commands.push_back({job.layout[node].host, "you run", OwnCommand(job, node)});
  }
  std::string control = kControl;
  if (!job.control_address.empty())
    control += "," + TcpAddress(job.control_address, job.master_port);
  const auto cores = static_cast<uint32_t>(AllowedCpus().size());
  const bool is_per_node = job.start == Start::kPerNode;
  const uint32_t num_starters =
      is_per_node && job.comm == Comm::kTcp ? static_cast<uint32_t>(job.layout.size()) : 1;
  for (uint32_t node = 0; node < num_starters; ++node) {
    Job there = job;
    if (is_per_node) there.node_rank = node;
    if (node > 0) control = TcpAddress(job.control_address, job.master_port);
    for (Command& command : StarterCommands(there, control, cores))
      commands.push_back(
          {is_per_node ? job.layout[node].host : "this machine", "runs", std::move(command)});
  }
  return commands;
}

// The node of the layout that this machine is, as far as that is known.
std::optional<uint32_t> NodeHere(const Job& job) {
  if (job.start == Start::kPerNode) return job.node_rank;
  return job.control_address.empty() ? std::optional<uint32_t>(0) : std::nullopt;
}

// By slot; empty where ranks are not bound.
Result<std::vector<Binding>> BindingsHere(const Job& job, const NodeSlots& node,
                                          const ReadRunNeeds& read_needs) {
  if (!job.bind) return std::vector<Binding>();
  STRATA_ASSIGN_OR_RETURN(const tiering::Topology topology, tiering::Topology::Detect());
  return BindSlots(topology, AllowedCpus(),
                   WishesHere(node, read_needs(job.command, WorldSize(job.layout)),
                              [](const char* name) -> const char* { return std::getenv(name); }));
}

std::string DescribeCores(const Job& job, uint32_t node_rank, uint32_t first_rank,
                          const ReadRunNeeds& read_needs) {
  if (NodeHere(job) != node_rank) return "  cores are chosen there\n";
  const NodeSlots& node = job.layout[node_rank];
  const Result<std::vector<Binding>> bindings = BindingsHere(job, node, read_needs);
  if (!bindings.ok()) return fmt::format("  error: {}\n", bindings.status().message());
  std::string text;
  for (uint32_t i = 0; i < node.slots.size() && !bindings->empty(); ++i)
    text += fmt::format("  rank {}: {}\n", first_rank + i, Describe(bindings->at(node.slots[i])));
  return text;
}

nlohmann::ordered_json CoresToJson(const Job& job, const NodeSlots& node,
                                   const ReadRunNeeds& read_needs) {
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  const Result<std::vector<Binding>> bindings = BindingsHere(job, node, read_needs);
  if (!bindings.ok() || bindings->empty()) return json;
  for (const uint32_t slot : node.slots) {
    const Binding& binding = bindings->at(slot);
    json.push_back({{"numa_nodes", binding.numa_nodes},
                    {"cpus", binding.cpus},
                    {"num_cores", binding.num_cores},
                    {"is_shared", binding.is_shared},
                    {"note", binding.note}});
  }
  return json;
}

}  // namespace

std::string DescribeDryRun(const Job& job, const ReadRunNeeds& read_needs) {
  std::string text = fmt::format("{}; nothing is started\n", Describe(job));
  uint32_t first = 0;
  for (uint32_t i = 0; i < job.layout.size(); ++i) {
    const NodeSlots& node = job.layout[i];
    const auto size = static_cast<uint32_t>(node.slots.size());
    text += size == 1 ? fmt::format("{}: rank {}", node.host, first)
                      : fmt::format("{}: ranks {}-{}", node.host, first, first + size - 1);
    text += fmt::format(", slot{} {} of {}\n", size == 1 ? "" : "s", FormatNumbers(node.slots),
                        node.num_slots);
    if (job.bind) text += DescribeCores(job, i, first, read_needs);
    first += size;
  }
  for (const NodeCommand& one : CommandsOf(job))
    text += fmt::format("\n{} {}:\n  {}\n", one.node, one.what, ToShell(one.command));
  return text;
}

std::string DryRunToJson(const Job& job, const ReadRunNeeds& read_needs) {
  nlohmann::ordered_json json;
  json["world_size"] = WorldSize(job.layout);
  json["master_addr"] = job.master_addr;
  json["master_port"] = job.master_port;
  json["log_dir"] = job.log_dir;
  for (uint32_t i = 0; i < job.layout.size(); ++i) {
    const NodeSlots& node = job.layout[i];
    nlohmann::ordered_json one = {
        {"host", node.host}, {"num_slots", node.num_slots}, {"slots", node.slots}};
    if (NodeHere(job) == i) one["cores"] = CoresToJson(job, node, read_needs);
    json["nodes"].push_back(one);
  }
  for (const NodeCommand& one : CommandsOf(job)) {
    nlohmann::ordered_json command;
    command["node"] = one.node;
    command["what"] = one.what;
    command["environment"] = nlohmann::ordered_json::object();
    for (const auto& [name, value] : one.command.environment) command["environment"][name] = value;
    command["words"] = one.command.words;
    json["commands"].push_back(command);
  }
  return json.dump(2);
}

}  // namespace strata::launch
