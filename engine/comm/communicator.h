// How ranks exchange numbers. One implementation so far: `self`, the only rank.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "aio/base/status.h"

namespace strata::engine {

// Collectives are called by every rank in the same order.
class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual uint32_t rank() const = 0;
  virtual uint32_t world_size() const = 0;

  // whole = the ranks' shards in rank order. whole.size() == world_size * shard.size().
  virtual Status AllGather(std::span<const std::byte> shard, std::span<std::byte> whole) = 0;
  // Sums the ranks' `whole` in rank order and keeps this rank's part of the sum.
  virtual Status ReduceScatter(std::span<const float> whole, std::span<float> shard) = 0;
  // Each number becomes its sum over the ranks, added up in rank order.
  virtual Status AllReduceSum(std::span<double> numbers) = 0;
};

std::unique_ptr<Communicator> MakeSelfCommunicator();

// Who this process is among the job's ranks, from the environment that mpirun, Slurm and
// torchrun-style launchers set (RANK, WORLD_SIZE and their OMPI_COMM_WORLD_* and SLURM_* kin).
struct RankEnvironment {
  uint32_t rank = 0;
  uint32_t world_size = 1;
  std::string world_size_variable = {};  // the one that was read, for messages
};
// kInvalidArgument naming the variable whose value is not a number or out of range.
Result<RankEnvironment> ReadRankEnvironment();

// The communicator for this process's place in the job. kUnimplemented for more than one rank.
Result<std::unique_ptr<Communicator>> MakeCommunicator(const RankEnvironment& environment);

}  // namespace strata::engine
