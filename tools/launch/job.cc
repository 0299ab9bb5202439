#include "tools/launch/job.h"

#include <fmt/format.h>

#include <initializer_list>
#include <limits>

#include "aio/base/address.h"
#include "tools/launch/hostfile.h"

namespace strata::launch {
namespace {

using Names = std::initializer_list<const char*>;

// The first of the variables that is set. An option beats them.
Result<std::optional<uint32_t>> Number(std::optional<uint32_t> option, Names names,
                                       const Environment& environment) {
  if (option) return option;
  for (const char* name : names) {
    const char* text = environment(name);
    if (text == nullptr || *text == '\0') continue;
    Result<uint32_t> number = ParseNumber(text);
    if (!number.ok()) {
      return number.status().With(
          fmt::format("environment variable {} (unset it, or give the option)", name));
    }
    return std::optional<uint32_t>(*number);
  }
  return std::optional<uint32_t>();
}

std::string Text(const std::string& option, Names names, const Environment& environment) {
  if (!option.empty()) return option;
  for (const char* name : names) {
    const char* text = environment(name);
    if (text != nullptr && *text != '\0') return text;
  }
  return {};
}

// With what torchrun's operators set (PET_*).
struct Counts {
  std::optional<uint32_t> nproc_per_node;
  std::optional<uint32_t> nnodes;
  std::optional<uint32_t> node_rank;
};
Result<Counts> ReadCounts(const Arguments& arguments, const Environment& environment) {
  Counts counts;
  STRATA_ASSIGN_OR_RETURN(
      counts.nproc_per_node,
      Number(arguments.nproc_per_node, {"NPROC_PER_NODE", "PET_NPROC_PER_NODE"}, environment));
  STRATA_ASSIGN_OR_RETURN(counts.nnodes,
                          Number(arguments.nnodes, {"NNODES", "PET_NNODES"}, environment));
  STRATA_ASSIGN_OR_RETURN(counts.node_rank,
                          Number(arguments.node_rank, {"NODE_RANK", "PET_NODE_RANK"}, environment));
  constexpr uint32_t kMax = 65536;
  if (counts.nproc_per_node && (*counts.nproc_per_node == 0 || *counts.nproc_per_node > 1024))
    return InvalidArgument("--nproc-per-node is from 1 to 1024");
  if (counts.nnodes && (*counts.nnodes == 0 || *counts.nnodes > kMax))
    return InvalidArgument(fmt::format("--nnodes is from 1 to {}", kMax));
  return counts;
}

Status ReadMaster(const Arguments& arguments, const Environment& environment, Job& job) {
  job.master_addr = Text(arguments.master_addr, {"MASTER_ADDR", "PET_MASTER_ADDR"}, environment);
  std::optional<uint32_t> option = arguments.master_port;
  STRATA_ASSIGN_OR_RETURN(std::optional<uint32_t> port,
                          Number(option, {"MASTER_PORT", "PET_MASTER_PORT"}, environment));
  if (port && (*port == 0 || *port > std::numeric_limits<uint16_t>::max()))
    return InvalidArgument(fmt::format("--master-port {} is not from 1 to 65535", *port));
  if (port) job.master_port = static_cast<uint16_t>(*port);
  return OkStatus();
}

Status RefuseNesting(const Environment& environment) {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK"}) {
    if (environment(name) == nullptr) continue;
    return FailedPrecondition(
        fmt::format("{} is set: this is a rank of mpirun already. Run 'mpirun ... strata train' "
                    "without strata launch, or strata launch without mpirun",
                    name));
  }
  return OkStatus();
}

// Before it is known where ranks are: what is asked for, or can be had here.
Status PlanComm(const Arguments& arguments, const Environment& environment,
                const std::string& why_no_mpi, Job& job) {
  if (arguments.comm == "auto") {
    job.comm = why_no_mpi.empty() ? Comm::kMpi : Comm::kTcp;
    job.why_tcp = why_no_mpi;
  } else if (arguments.comm == "mpi" || arguments.comm == "tcp") {
    job.comm = arguments.comm == "mpi" ? Comm::kMpi : Comm::kTcp;
  } else {
    return InvalidArgument(fmt::format("--comm '{}' is not auto, mpi or tcp", arguments.comm));
  }
  STRATA_ASSIGN_OR_RETURN(const std::optional<uint32_t> port,
                          Number({}, {"STRATA_MASTER_PORT"}, environment));
  if (port.value_or(0) > std::numeric_limits<uint16_t>::max())
    return InvalidArgument(fmt::format("STRATA_MASTER_PORT={} is not a port", *port));
  job.comm_port = static_cast<uint16_t>(port.value_or(0));
  return OkStatus();
}

// What only MPI's starters do.
Status RefuseWithoutMpi(const Arguments& arguments, const Job& job) {
  const bool is_started_by_us = job.start == Start::kHere || job.start == Start::kPerNode;
  if (arguments.comm == "tcp" && !is_started_by_us) {
    return InvalidArgument(
        "--comm tcp: what starts ranks on other nodes from here is MPI's; run strata launch on "
        "every node instead, with --node-rank and --master-addr (in Slurm: tools/train-slurm.sh)");
  }
  if (job.start == Start::kPerNode && job.comm == Comm::kTcp && !job.exports.empty()) {
    return InvalidArgument(fmt::format(
        "-x {}: without MPI each node's launcher passes on what is set there: set it on every node",
        job.exports[0]));
  }
  return OkStatus();
}

Status PlanHostfile(const Arguments& arguments, const Counts& counts, Job& job) {
  if (counts.node_rank) {
    return InvalidArgument(
        "--hostfile starts all nodes from here, --node-rank (or NODE_RANK) says that each node is "
        "started on its own: give one of them");
  }
  if (!arguments.include.empty() && !arguments.exclude.empty())
    return InvalidArgument("--include and --exclude cannot be given together");
  const bool is_filtered = !arguments.include.empty() || !arguments.exclude.empty();
  if (is_filtered && (counts.nnodes || counts.nproc_per_node)) {
    return InvalidArgument(
        "--include and --exclude say which slots; --nnodes and --nproc-per-node cannot be given "
        "with them");
  }
  STRATA_ASSIGN_OR_RETURN(job.layout, ReadHostfile(arguments.hostfile));
  if (!arguments.include.empty()) {
    STRATA_ASSIGN_OR_RETURN(job.layout,
                            FilterLayout(job.layout, Filter::kInclude, arguments.include));
  } else if (!arguments.exclude.empty()) {
    STRATA_ASSIGN_OR_RETURN(job.layout,
                            FilterLayout(job.layout, Filter::kExclude, arguments.exclude));
  }
  STRATA_ASSIGN_OR_RETURN(job.layout, Shrink(job.layout, counts.nnodes, counts.nproc_per_node));
  job.start = Start::kMpirun;
  job.comm = Comm::kMpi;
  if (job.master_addr.empty()) job.master_addr = job.layout[0].host;
  return OkStatus();
}

Status PlanPerNode(const Counts& counts, Job& job) {
  const uint32_t num_nodes = *counts.nnodes;
  job.start = Start::kPerNode;
  job.node_rank = *counts.node_rank;
  job.layout = EvenLayout(num_nodes, counts.nproc_per_node.value_or(1));
  if (job.node_rank >= num_nodes) {
    return InvalidArgument(fmt::format("--node-rank {}: the ranks of {} nodes are 0 to {}",
                                       job.node_rank, num_nodes, num_nodes - 1));
  }
  if (job.master_addr.empty()) {
    return InvalidArgument(
        "--nnodes needs --master-addr (or MASTER_ADDR): the name or address of node 0, the same on "
        "every node");
  }
  return OkStatus();
}

// The nodes of the Slurm allocation we are in; nothing outside of one, or in one of its steps.
Result<std::optional<uint32_t>> AllocatedNodes(const Environment& environment) {
  if (environment("SLURM_JOB_ID") == nullptr) return std::optional<uint32_t>();
  STRATA_ASSIGN_OR_RETURN(std::optional<uint32_t> num_tasks,
                          Number({}, {"SLURM_STEP_NUM_TASKS"}, environment));
  if (environment("SLURM_STEP_ID") != nullptr && num_tasks.value_or(1) > 1) {
    return InvalidArgument(
        "srun started this as one of several tasks: give --nnodes $SLURM_NNODES --node-rank "
        "$SLURM_NODEID --master-addr HOST, or run strata launch once, without srun");
  }
  return Number({}, {"SLURM_JOB_NUM_NODES", "SLURM_NNODES"}, environment);
}

Status PlanAllocation(const Counts& counts, uint32_t allocated, const Environment& environment,
                      Job& job) {
  const uint32_t num_nodes = counts.nnodes.value_or(allocated);
  if (num_nodes > allocated) {
    return InvalidArgument(
        fmt::format("--nnodes {}: this Slurm allocation has {}", num_nodes, allocated));
  }
  STRATA_ASSIGN_OR_RETURN(std::optional<uint32_t> num_slots,
                          Number(counts.nproc_per_node, {"SLURM_NTASKS_PER_NODE"}, environment));
  job.start = Start::kSrun;
  job.comm = Comm::kMpi;
  job.layout = EvenLayout(num_nodes, num_slots.value_or(1));
  if (job.master_addr.empty()) job.master_addr = HostName();
  return OkStatus();
}

Status PlanPlaces(const Arguments& arguments, const Environment& environment, Job& job) {
  STRATA_ASSIGN_OR_RETURN(const Counts counts, ReadCounts(arguments, environment));
  if (!arguments.hostfile.empty()) return PlanHostfile(arguments, counts, job);
  if (!arguments.include.empty() || !arguments.exclude.empty())
    return InvalidArgument("--include and --exclude choose from a --hostfile: give that, too");
  if (counts.node_rank && counts.nnodes.value_or(1) > 1) return PlanPerNode(counts, job);
  if (counts.node_rank.value_or(0) != 0)
    return InvalidArgument(fmt::format("--node-rank {} needs --nnodes", *counts.node_rank));
  STRATA_ASSIGN_OR_RETURN(const std::optional<uint32_t> allocated, AllocatedNodes(environment));
  if (allocated.value_or(1) > 1 && counts.nnodes.value_or(*allocated) > 1 && !counts.node_rank)
    return PlanAllocation(counts, *allocated, environment, job);
  if (counts.nnodes.value_or(1) > 1) {
    return InvalidArgument(
        fmt::format("--nnodes {}: where are they? Run this command on every node with --node-rank "
                    "0, 1... (or NODE_RANK) and --master-addr, or give a --hostfile",
                    *counts.nnodes));
  }
  job.layout = EvenLayout(1, counts.nproc_per_node.value_or(1));
  job.layout[0].host = "localhost";
  const bool is_through_mpi = WorldSize(job.layout) > 1 && job.comm == Comm::kMpi;
  job.start = is_through_mpi ? Start::kMpirun : Start::kHere;
  if (job.master_addr.empty()) job.master_addr = "127.0.0.1";
  return OkStatus();
}

bool IsElsewhere(const Job& job) {
  if (job.start == Start::kSrun || job.start == Start::kPerNode) return true;
  return job.layout.size() > 1 || job.layout[0].host != "localhost";
}

}  // namespace

Result<Job> PlanJob(const Arguments& arguments, const std::string& strata,
                    const Environment& environment, const std::string& why_no_mpi) {
  STRATA_RETURN_IF_ERROR(RefuseNesting(environment));
  if (arguments.command.empty() && arguments.program.empty())
    return InvalidArgument("nothing to run: give it after '--', as in '-- train run.toml'");
  // Stopping takes this, a SIGKILL and a moment; ten seconds are promised.
  if (arguments.grace_seconds < 1 || arguments.grace_seconds > 3600)
    return InvalidArgument("--grace is from 1 to 3600 seconds");
  Job job;
  job.exports = arguments.exports;
  job.log_dir = arguments.log_dir;
  job.wait = std::chrono::seconds(arguments.wait_seconds);
  job.grace = std::chrono::seconds(arguments.grace_seconds);
  job.bind = !arguments.no_bind;
  job.strata = strata;
  job.program = arguments.program;
  job.job_id = arguments.job_id;
  job.command = {arguments.program.empty() ? strata : arguments.program};
  job.command.insert(job.command.end(), arguments.command.begin(), arguments.command.end());
  STRATA_RETURN_IF_ERROR(ReadMaster(arguments, environment, job));
  STRATA_RETURN_IF_ERROR(PlanComm(arguments, environment, why_no_mpi, job));
  STRATA_RETURN_IF_ERROR(PlanPlaces(arguments, environment, job));
  STRATA_RETURN_IF_ERROR(RefuseWithoutMpi(arguments, job));
  if (IsElsewhere(job)) {
    const bool is_per_node = job.start == Start::kPerNode;
    job.control_address = is_per_node                          ? job.master_addr
                          : !arguments.control_address.empty() ? arguments.control_address
                                                               : HostName();
  }
  return job;
}

std::string Describe(const Job& job) {
  const uint32_t num_ranks = WorldSize(job.layout);
  const std::string ranks = fmt::format("{} rank{}", num_ranks, num_ranks == 1 ? "" : "s");
  const std::string how = num_ranks == 1 || job.comm == Comm::kMpi ? ""
                          : job.why_tcp.empty()
                              ? ", which meet over TCP"
                              : fmt::format(", which meet over TCP ({})", job.why_tcp);
  if (!IsElsewhere(job)) return ranks + " on this machine" + how;
  return fmt::format("{} on {} node{}{}", ranks, job.layout.size(),
                     job.layout.size() == 1 ? "" : "s", how);
}

}  // namespace strata::launch
