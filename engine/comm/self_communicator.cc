#include <cstring>
#include <mutex>

#include "engine/comm/communicator.h"
#include "engine/comm/internal/failure.h"
#include "engine/comm/internal/gpu_link.h"
#include "engine/comm/internal/traffic_counter.h"

namespace strata::engine {
namespace {

// What all ranks together do, done by one: nothing but copies.
class SelfChannel final : public Channel {
 public:
  SelfChannel(const Failure& failure, TrafficCounter* counter)
      : failure_(failure), counter_(*counter) {}

  Status AllGather(const Stream& stream, std::span<const std::byte> shard,
                   std::span<std::byte> whole) override {
    return Copy(Collective::kAllGather, stream, shard, whole);
  }
  Status ReduceScatter(const Stream& stream, std::span<const std::byte> whole,
                       std::span<std::byte> shard, DType dtype) override {
    STRATA_CHECK(whole.size() % SizeOf(dtype) == 0);
    return Copy(Collective::kReduceScatter, stream, whole, shard);
  }
  Status AllReduce(const Stream& stream, std::span<std::byte> numbers, DType dtype) override {
    STRATA_CHECK(numbers.size() % SizeOf(dtype) == 0);
    return Copy(Collective::kAllReduce, stream, {}, {});
  }
  Status AllReduceSum(std::span<double>) override { return Copy(Collective::kSum, {}, {}, {}); }
  Status Broadcast(const Stream& stream, std::span<std::byte>, uint32_t root) override {
    STRATA_CHECK(root == 0);
    return Copy(Collective::kBroadcast, stream, {}, {});
  }
  Status Barrier() override { return Copy(Collective::kBarrier, {}, {}, {}); }

 private:
  Status Copy(Collective collective, const Stream& stream, std::span<const std::byte> from,
              std::span<std::byte> to) {
    STRATA_CHECK(from.size() == to.size());
    if (failure_.failed()) return failure_.status();
    counter_.Add(collective, {.calls = 1});
    if (from.empty() || from.data() == to.data()) return OkStatus();
    if (IsOnGpu(stream)) return CopyOnGpu(stream, to, from);
    std::memmove(to.data(), from.data(), from.size());
    return OkStatus();
  }

  const Failure& failure_;
  TrafficCounter& counter_;
};

class SelfCommunicator final : public Communicator {
 public:
  uint32_t rank() const override { return 0; }
  uint32_t world_size() const override { return 1; }
  uint32_t local_rank() const override { return 0; }
  uint32_t local_size() const override { return 1; }
  uint32_t node() const override { return 0; }
  uint32_t num_nodes() const override { return 1; }
  std::string description() const override { return "self: the only rank"; }
  Channel& channel(ChannelId id) override { return channels_[static_cast<size_t>(id)]; }
  Status ShareMemory(std::span<std::byte>, int) override { return OkStatus(); }
  void UnshareMemory(std::span<std::byte>) override {}
  Status UseGpu(const GpuOptions&) override { return OkStatus(); }
  uint64_t gpu_bytes() const override { return 0; }
  void ShowProgress(uint64_t) override {}  // nobody waits for it
  Waits waits() const override { return {}; }
  void Abort(const Status& why) override { failure_.Set(why); }
  TrafficByCollective traffic() const override { return counter_.Read(); }

 private:
  Failure failure_;
  TrafficCounter counter_;
  std::array<SelfChannel, kNumChannels> channels_ = {
      SelfChannel(failure_, &counter_), SelfChannel(failure_, &counter_),
      SelfChannel(failure_, &counter_), SelfChannel(failure_, &counter_)};
};

}  // namespace

std::unique_ptr<Communicator> MakeSelfCommunicator() {
  return std::make_unique<SelfCommunicator>();
}

}  // namespace strata::engine
