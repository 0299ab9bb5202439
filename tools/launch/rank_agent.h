// Runs one rank of a job: gives it its environment and its cores, keeps its log, passes its output
// on and stops it when the launcher says so or is gone.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tools/launch/job.h"
#include "tools/launch/layout.h"
#include "tools/launch/wishes.h"

namespace strata::launch {

struct AgentArguments {
  std::string layout;
  std::string control;  // addresses, separated by commas
  std::string master_addr;
  uint16_t master_port = kDefaultMasterPort;
  std::string log_dir;
  uint32_t grace_seconds = 8;
  bool no_bind = false;
  std::optional<uint32_t> rank;       // otherwise what mpirun or srun says
  std::optional<uint16_t> comm_port;  // where rank 0 listens for the others; otherwise MPI knows
  std::vector<std::string> command;
};

// The process's exit code: 0 when the launcher was told how the rank ended. `read_needs` is asked
// where the rank will run.
int RunAgent(const AgentArguments& arguments, const ReadRunNeeds& read_needs);

// Who this process is: what `given` or MPI's or Slurm's environment says, in the layout. An error
// when MPI counts this machine's ranks otherwise than the layout does.
struct RankIdentity {
  uint32_t rank = 0;
  uint32_t world_size = 0;
  RankPlace place;
  NodeSlots node;
};
Result<RankIdentity> IdentityOf(const Layout& layout, std::optional<uint32_t> given,
                                const Environment& environment);

// RANK, LOCAL_RANK and so on; CUDA_VISIBLE_DEVICES where ranks use some of a node's slots only, so
// that LOCAL_RANK counts through those.
std::vector<std::pair<std::string, std::string>> RankVariables(const RankIdentity& identity,
                                                               const std::string& master_addr,
                                                               uint16_t master_port,
                                                               std::optional<uint16_t> comm_port);

}  // namespace strata::launch
