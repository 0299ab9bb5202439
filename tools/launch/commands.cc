#include "tools/launch/commands.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

namespace strata::launch {
namespace {

using Words = std::vector<std::string>;

void Add(Words& words, const Words& more) { words.insert(words.end(), more.begin(), more.end()); }

void AddMca(Words& words, const std::string& name, const std::string& value) {
  Add(words, {"--mca", name, value});
}

std::string HostList(const Job& job) {
  std::string text;
  for (uint32_t i = 0; i < job.layout.size(); ++i) {
    const NodeSlots& node = job.layout[i];
    const std::string name = job.start != Start::kPerNode ? node.host
                             : i == 0                     ? "localhost"
                                                          : NodeAlias(i);
    text += fmt::format("{}{}:{}", text.empty() ? "" : ",", name, node.slots.size());
  }
  return text;
}

bool IsOnlyHere(const Job& job) {
  return job.start == Start::kMpirun && job.control_address.empty();
}

// How mpirun starts its daemons on other nodes.
void AddNodeStart(const Job& job, Words& words) {
  if (IsOnlyHere(job)) {
    AddMca(words, "plm", "isolated");
    return;
  }
  AddMca(words, "plm", "rsh");
  AddMca(words, "plm_rsh_no_tree_spawn", "1");
  // Daemons stay children of who starts them, and so end with it.
  AddMca(words, "orte_leave_session_attached", "1");
  if (job.start == Start::kPerNode) {
    AddMca(words, "plm_rsh_agent", fmt::format("{} {}", job.strata, kDaemonCommand));
  } else {
    AddMca(words, "plm_rsh_args", "-o BatchMode=yes -o ConnectTimeout=20");
  }
}

// As far as is known here: of a hostfile's nodes it is not.
bool IsOversubscribed(const Job& job, uint32_t cores) {
  if (!IsOnlyHere(job) && job.start != Start::kPerNode) return false;
  return std::any_of(job.layout.begin(), job.layout.end(),
                     [cores](const NodeSlots& node) { return node.slots.size() > cores; });
}

Words MpirunWords(const Job& job, uint32_t cores) {
  Words words = {"mpirun", "--np", fmt::format("{}", WorldSize(job.layout)), "--host",
                 HostList(job)};
  // The nodes are those above, whatever allocation this runs in.
  AddMca(words, "ras", "^slurm,tm,lsf,gridengine");
  AddNodeStart(job, words);
  // Agents bind their ranks.
  AddMca(words, "hwloc_base_binding_policy", "none");
  // Waiting ranks give their core to others where there are fewer cores than ranks.
  if (IsOversubscribed(job, cores)) AddMca(words, "mpi_yield_when_idle", "1");
  Words exports = {kTokenVariable};
  Add(exports, job.exports);
  for (const std::string& name : exports) Add(words, {"-x", name});
  return words;
}

Words SrunWords(const Job& job) {
  std::string exports = "ALL";
  const size_t per_node = job.layout[0].slots.size();
  return {"srun",
          fmt::format("--nodes={}", job.layout.size()),
          fmt::format("--ntasks={}", WorldSize(job.layout)),
          fmt::format("--ntasks-per-node={}", per_node),
          "--distribution=block",
          "--mpi=pmix",
          "--cpu-bind=none",
          "--kill-on-bad-exit=0",
          "--wait=0",
          "--export=" + exports};
}

// What runs, watches and logs one rank; without its number it asks who started it.
Words AgentWords(const Job& job, const std::string& control, const Words& rank) {
  Words words = {job.strata,      kAgentCommand,
                 "--layout",      FormatLayout(job.layout),
                 "--control",     control,
                 "--master-addr", job.master_addr,
                 "--master-port", fmt::format("{}", job.master_port),
                 "--log-dir",     job.log_dir,
                 "--grace",       fmt::format("{}", job.grace.count())};
  if (!job.bind) words.push_back("--no-bind");
  Add(words, rank);
  words.push_back("--");
  Add(words, job.command);
  return words;
}

// Of the ranks of this node.
std::vector<Command> AgentCommands(const Job& job, const std::string& control) {
  std::vector<Command> commands;
  const uint32_t world_size = WorldSize(job.layout);
  for (uint32_t rank = 0; rank < world_size; ++rank) {
    if (PlaceOf(job.layout, rank).node_rank != job.node_rank) continue;
    Words words = {"--rank", fmt::format("{}", rank)};
    if (world_size > 1) {
      const std::string port = job.comm_port == 0 ? "PORT" : fmt::format("{}", job.comm_port);
      Add(words, {"--comm-port", port});
    }
    commands.push_back({.environment = {}, .words = AgentWords(job, control, words)});
  }
  return commands;
}

std::string Quoted(const std::string& word) {
  constexpr std::string_view kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=+:,./@%^";
  if (!word.empty() && word.find_first_not_of(kPlain) == std::string::npos) return word;
  std::string text = "'";
  for (char c : word) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return text + "'";
}

}  // namespace

std::string NodeAlias(uint32_t node_rank) { return fmt::format("strata-node-{}", node_rank); }

std::vector<Command> StarterCommands(const Job& job, const std::string& control, uint32_t cores) {
  const bool is_by_launchers =
      job.start == Start::kHere || (job.start == Start::kPerNode && job.comm == Comm::kTcp);
  if (is_by_launchers) return AgentCommands(job, control);
  Command command;
  command.words = job.start == Start::kSrun ? SrunWords(job) : MpirunWords(job, cores);
  if (job.start != Start::kSrun && geteuid() == 0) {
    command.environment = {{"OMPI_ALLOW_RUN_AS_ROOT", "1"},
                           {"OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"}};
  }
  Add(command.words, AgentWords(job, control, {}));
  return {std::move(command)};
}

std::string ToShell(const Command& command) {
  std::string text;
  for (const auto& [name, value] : command.environment)
    text += fmt::format("{}={} ", name, Quoted(value));
  for (size_t i = 0; i < command.words.size(); ++i)
    text += (i == 0 ? "" : " ") + Quoted(command.words[i]);
  return text;
}

}  // namespace strata::launch
