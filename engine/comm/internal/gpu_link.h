// How payloads in the memory of GPUs are exchanged: enqueued on a stream.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "engine/comm/communicator.h"

namespace strata::engine {

class World;

inline bool IsOnGpu(const tiering::StreamContext& stream) {
  return stream.native_stream != nullptr;
}

// The collectives as Channel has them, of one channel, by one thread at a time. What a call returns
// is that of enqueueing; what fails later ends up in World::Fail().
class GpuLink {
 public:
  using Stream = tiering::StreamContext;
  virtual ~GpuLink() = default;
  virtual std::string description() const = 0;  // "NCCL 2.28.9"
  // Of the GPU's memory, since it was linked: Communicator::gpu_bytes().
  virtual uint64_t gpu_bytes() const = 0;

  virtual Status AllGather(const Stream& stream, std::span<const std::byte> shard,
                           std::span<std::byte> whole) = 0;
  virtual Status ReduceScatter(const Stream& stream, std::span<const std::byte> whole,
                               std::span<std::byte> shard, DType dtype) = 0;
  virtual Status AllReduce(const Stream& stream, std::span<std::byte> numbers, DType dtype) = 0;
  virtual Status Broadcast(const Stream& stream, std::span<std::byte> bytes, uint32_t root) = 0;

  // Whether its stream waits for other ranks now, and how many collectives are over.
  virtual Communicator::Waits waits() const = 0;
};

// By NCCL. Called by all ranks; what one of them lacks is an error of all. `control` is for
// agreement and outlives the link, as the world does.
Result<std::unique_ptr<GpuLink>> LinkGpus(World* world, Channel* control,
                                          const GpuOptions& options);

// What a collective of the only rank is.
Status CopyOnGpu(const tiering::StreamContext& stream, std::span<std::byte> to,
                 std::span<const std::byte> from);

}  // namespace strata::engine
