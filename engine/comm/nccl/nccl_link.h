// Payloads of GPUs, by NCCL: who sends what, and where sums are made (docs/decisions/0041).
#pragma once

#include <memory>
#include <string>

#include "engine/comm/internal/gpu_link.h"
#include "engine/comm/internal/world.h"
#include "engine/comm/nccl/flights.h"
#include "engine/comm/nccl/nccl_comm.h"
#include "engine/comm/nccl/nccl_watch.h"

namespace strata::engine {

// Device memory outside the budget.
class GpuMemory {
 public:
  static Result<GpuMemory> Allocate(uint64_t size_bytes);
  std::span<std::byte> bytes() const { return {memory_.get(), size_bytes_}; }

 private:
  struct Free {
    void operator()(std::byte* memory) const;
  };
  std::unique_ptr<std::byte, Free> memory_;
  uint64_t size_bytes_ = 0;
};

// Of the current GPU; 0 where CUDA does not tell.
uint64_t FreeGpuBytes();

class NcclLink final : public GpuLink {
 public:
  struct Parts {
    World* world = nullptr;
    int device = 0;
    int nccl_version = 0;
    std::unique_ptr<NcclComm> comm;
    GpuMemory staging;
  };
  static Result<std::unique_ptr<NcclLink>> Create(Parts parts);
  ~NcclLink() override;

  std::string description() const override;
  uint64_t gpu_bytes() const override { return gpu_bytes_; }
  Status AllGather(const Stream& stream, std::span<const std::byte> shard,
                   std::span<std::byte> whole) override;
  Status ReduceScatter(const Stream& stream, std::span<const std::byte> whole,
                       std::span<std::byte> shard, DType dtype) override;
  Status AllReduce(const Stream& stream, std::span<std::byte> numbers, DType dtype) override;
  Status Broadcast(const Stream& stream, std::span<std::byte> bytes, uint32_t root) override;
  Communicator::Waits waits() const override;

  // Each kind once, and whether the sums are right: what connects GPUs for the first time, what
  // that takes of their memory, and what is broken from the start, shows before training does.
  Status TryOut();
  // What is free of the GPU now, against before there was anything of this link.
  void MeasureMemory(uint64_t free_bytes_before);

 private:
  explicit NcclLink(Parts parts);

  using Body = std::function<Status()>;
  // Puts `body` on the stream as the next collective.
  Status Fly(const Stream& stream, const Announcement& announcement, const Body& body);
  void Show(const Announcement& announcement);

  // Sums segments of `stride` elements, this rank's into `sum`, piece by piece through the staging.
  Status SumSegments(const Stream& stream, std::span<const std::byte> whole, uint64_t stride,
                     std::byte* sum, DType dtype);
  Status SumPiece(const Stream& stream, std::span<const std::byte> whole, uint64_t stride,
                  uint64_t offset, uint64_t num_elements, std::byte* sum, DType dtype);
  // Every rank gets what all have, and adds it up itself.
  Status SumEverywhere(const Stream& stream, std::span<std::byte> numbers, DType dtype);
  Status Gather(const Stream& stream, std::span<const std::byte> shard, std::span<std::byte> whole);

  std::byte* Slot(uint32_t rank) const {
    return parts_.staging.bytes().data() + rank * slot_bytes_;
  }
  uint32_t rank() const { return parts_.world->ranks().rank(); }
  uint32_t world_size() const { return parts_.world->ranks().world_size(); }
  void Count(Collective collective, const Traffic& traffic);
  // Where every rank sends each other rank `bytes`.
  Traffic ExchangeTraffic(uint64_t bytes) const;
  Traffic SumTraffic(uint64_t segment_bytes, DType dtype) const;

  Parts parts_;
  const uint64_t slot_bytes_;  // of the staging, for each rank
  uint64_t gpu_bytes_ = 0;
  Flights flights_;
  std::unique_ptr<NcclWatch> watch_;  // ends first
};

}  // namespace strata::engine
