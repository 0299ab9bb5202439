// What `strata launch` is asked for, and what that means: which ranks where, started how.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "aio/base/status.h"
#include "tools/launch/layout.h"

namespace strata::launch {

inline constexpr uint16_t kDefaultMasterPort = 29500;

// The command line. What is not given comes from the environment or a default, in PlanJob().
struct Arguments {
  std::optional<uint32_t> nproc_per_node = {};
  std::optional<uint32_t> nnodes = {};
  std::optional<uint32_t> node_rank = {};
  std::string master_addr = {};
  std::optional<uint16_t> master_port = {};
  std::string hostfile = {};
  std::string include = {};
  std::string exclude = {};
  std::string control_address = {};  // how the nodes of a hostfile or allocation reach this machine
  std::string job_id = {};
  std::string comm = "auto";
  std::string secret_file = {};
  std::vector<std::string> exports = {};  // names of variables for ranks on other machines
  std::string log_dir = "strata-logs";
  std::string program = {};  // run instead of strata
  uint32_t wait_seconds = 600;
  uint32_t grace_seconds = 8;
  bool no_bind = false;
  bool dry_run = false;
  bool json = false;
  std::vector<std::string> command = {};  // what follows "--"
};

enum class Start {
  kHere,     // this machine's ranks, by this launcher itself
  kMpirun,   // this machine's ranks, or those of a hostfile
  kSrun,     // an allocation's
  kPerNode,  // this command runs on every node; node 0 starts MPI through the others, if need be
};

// How several ranks find each other: through mpirun, which starts them, or over TCP, started by the
// launchers of their nodes.
enum class Comm { kMpi, kTcp };

// Everything about a job that its launcher knows before anything has started.
struct Job {
  Start start = Start::kHere;
  Comm comm = Comm::kMpi;
  std::string why_tcp;     // where that was not asked for
  uint16_t comm_port = 0;  // where rank 0 listens for the others; 0: not chosen yet, or MPI's ranks
  Layout layout;           // of a per-node start: EvenLayout until the nodes have said who they are
  uint32_t node_rank = 0;
  std::string master_addr;
  uint16_t master_port = kDefaultMasterPort;
  std::string control_address;  // of this machine, for other machines' agents; empty: all are here
  std::string job_id;
  std::vector<std::string> exports;
  std::string log_dir;
  std::chrono::seconds wait{};
  std::chrono::seconds grace{};
  bool bind = true;
  std::string strata;  // this program
  std::string program;
  std::vector<std::string> command;  // of a rank: program and arguments
};

// A variable's value, or nullptr: std::getenv, or a test's.
using Environment = std::function<const char*(const char* name)>;

// `strata` is the path of this program; `why_no_mpi` says why ranks cannot be started through MPI
// here, and is empty where they can. kInvalidArgument for what does not go together.
Result<Job> PlanJob(const Arguments& arguments, const std::string& strata,
                    const Environment& environment, const std::string& why_no_mpi);

// "2 ranks on this machine".
std::string Describe(const Job& job);

}  // namespace strata::launch
