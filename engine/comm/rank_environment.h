// Who this process is among the job's ranks, as launchers say it in the environment.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "aio/base/status.h"

namespace strata::engine {

// From the first of these that set both rank and world size:
//   torchrun-style (and strata launch): RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, NODE_RANK
//     or GROUP_RANK
//   mpirun: OMPI_COMM_WORLD_RANK and its kin, or PMI_RANK and its kin
//   srun: SLURM_PROCID and its kin, only inside a job step: a batch script, which has them too, is
//     one process
struct RankEnvironment {
  uint32_t rank = 0;
  uint32_t world_size = 1;
  std::optional<uint32_t> local_rank = {};
  std::optional<uint32_t> local_size = {};
  std::optional<uint32_t> node = {};
  std::string master_addr = {};  // MASTER_ADDR, MASTER_PORT; empty and 0 when unset
  uint16_t master_port = 0;
  // Where rank 0 listens for the other ranks when they meet over TCP: STRATA_MASTER_PORT, or the
  // port after MASTER_PORT, which under torchrun is the agent's own.
  uint16_t control_port = 29501;
  bool is_under_mpi = false;  // a runtime of MPI's has started this process, and knows the others
  std::string world_size_variable = {};  // the one that was read, for messages
};

// kInvalidArgument naming the variable whose value is not a number, out of range or missing.
Result<RankEnvironment> ReadRankEnvironment();

}  // namespace strata::engine
