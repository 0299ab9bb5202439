// A channel of a rank among others.
#pragma once

#include <atomic>
#include <functional>
#include <vector>

#include "engine/comm/communicator.h"
#include "engine/comm/internal/gpu_link.h"
#include "engine/comm/internal/ordered_sum.h"
#include "engine/comm/internal/turn.h"

namespace strata::engine {

class RankedChannel final : public Channel {
 public:
  RankedChannel(World* world, ChannelId id);

  Status AllGather(const Stream& stream, std::span<const std::byte> shard,
                   std::span<std::byte> whole) override;
  Status ReduceScatter(const Stream& stream, std::span<const std::byte> whole,
                       std::span<std::byte> shard, DType dtype) override;
  Status AllReduce(const Stream& stream, std::span<std::byte> numbers, DType dtype) override;
  Status AllReduceSum(std::span<double> numbers) override;
  Status Broadcast(const Stream& stream, std::span<std::byte> bytes, uint32_t root) override;
  Status Barrier() override;

  // What payloads of GPUs go by; null: none.
  void SetGpuLink(GpuLink* link) { gpu_link_ = link; }

 private:
  // Puts what `enqueue` does with the link on a stream.
  Status OnGpu(Collective collective, const std::function<Status()>& enqueue);
  Status Gathered(Collective collective, std::span<const std::byte> own,
                  std::span<std::byte> whole);
  // A rank's segment of the sum of all `whole`.
  Status SumSegment(Announcement announcement, std::span<const std::byte> whole,
                    std::span<std::byte> shard, uint64_t stride_elements, DType dtype);
  Status Do(const std::function<Status()>& collective);
  void Count(Collective collective) { world_.counter().Add(collective, {.calls = 1}); }

  World& world_;
  GpuLink* gpu_link_ = nullptr;
  std::atomic<bool> is_busy_ = false;
  ChannelState state_;
  SumBuffers buffers_;
  std::vector<std::byte> arriving_;  // of DirectSum
  std::vector<std::byte> small_;     // of all ranks
};

}  // namespace strata::engine
