#include "engine/comm/internal/ranked_communicator.h"

#include <fmt/format.h>

#include <utility>
#include <vector>

#include "aio/base/log.h"
#include "engine/comm/internal/ranked_channel.h"
#include "engine/comm/internal/world.h"

namespace strata::engine {
namespace {

class RankedCommunicator final : public Communicator {
 public:
  explicit RankedCommunicator(std::unique_ptr<World> world) : world_(std::move(world)) {
    for (size_t id = 0; id < kNumChannels; ++id) {
      channels_[id] = std::make_unique<RankedChannel>(world_.get(), static_cast<ChannelId>(id));
    }
  }
  // The others may still read this rank's memory in collectives that it has finished; so all meet
  // before anybody leaves.
  ~RankedCommunicator() override {
    if (world_->failed()) return;  // whoever met that has been told
    const Status met = channel(ChannelId::kControl).Barrier();
    if (!met.ok()) Log(Severity::kError, "comm", "leaving the job: {}", met.message());
  }

  uint32_t rank() const override { return ranks().rank(); }
  uint32_t world_size() const override { return ranks().world_size(); }
  uint32_t local_rank() const override { return ranks().local_rank(); }
  uint32_t local_size() const override { return ranks().local_size(); }
  uint32_t node() const override { return ranks().node(); }
  uint32_t num_nodes() const override { return ranks().num_nodes(); }
  std::string description() const override {
    const std::string ranks =
        fmt::format("{} ranks on {} node{} ({})", world_size(), num_nodes(),
                    num_nodes() == 1 ? "" : "s", world_->transport().description());
    if (gpu_link_ == nullptr) return fmt::format("{}: {}", world_->transport().name(), ranks);
    return fmt::format("nccl: {} on GPUs, {}", gpu_link_->description(), ranks);
  }

  Channel& channel(ChannelId id) override { return *channels_[static_cast<size_t>(id)]; }
  Status ShareMemory(std::span<std::byte> memory, int fd) override;
  void UnshareMemory(std::span<std::byte> memory) override {
    world_->memory().RemoveRegion(memory);
  }
  Status UseGpu(const GpuOptions& options) override;
  uint64_t gpu_bytes() const override {
    return gpu_link_ == nullptr ? 0 : gpu_link_->gpu_bytes();
  }
  void ShowProgress(uint64_t progress) override { world_->ShowProgress(progress); }
  Waits waits() const override;
  void Abort(const Status& why) override {
    static_cast<void>(
        world_->Fail(why.With(fmt::format("rank {} aborts the collectives", rank()))).ok());
  }
  TrafficByCollective traffic() const override { return world_->counter().Read(); }

 private:
  const RankMap& ranks() const { return world_->ranks(); }

  std::unique_ptr<World> world_;
  std::array<std::unique_ptr<RankedChannel>, kNumChannels> channels_;
  std::unique_ptr<GpuLink> gpu_link_;  // ends first
};

Status RankedCommunicator::ShareMemory(std::span<std::byte> memory, int fd) {
  const MemoryName mine = NameOf(memory, fd, 0);
  std::vector<MemoryName> names(world_size());
  Channel& control = channel(ChannelId::kControl);
  STRATA_RETURN_IF_ERROR(control.AllGather(std::as_bytes(std::span(&mine, 1)),
                                           std::as_writable_bytes(std::span(names))));
  const std::span<const MemoryName> of_node =
      std::span(names).subspan(ranks().first_of(node()), local_size());
  const Status added = world_->memory().AddRegion(ranks(), of_node);
  if (!added.ok()) return world_->Fail(added.With("share memory"));
  return control.Barrier();
}

Status RankedCommunicator::UseGpu(const GpuOptions& options) {
  if (gpu_link_ != nullptr) return FailedPrecondition("this rank's GPU is in use already");
  STRATA_ASSIGN_OR_RETURN(gpu_link_,
                          LinkGpus(world_.get(), &channel(ChannelId::kControl), options));
  channels_[static_cast<size_t>(ChannelId::kCommLane)]->SetGpuLink(gpu_link_.get());
  return OkStatus();
}

Communicator::Waits RankedCommunicator::waits() const {
  Waits waits = world_->waits();
  if (gpu_link_ == nullptr) return waits;
  const Waits on_gpu = gpu_link_->waits();
  return {waits.now + on_gpu.now, waits.ended + on_gpu.ended};
}

}  // namespace

Result<std::unique_ptr<Communicator>> MakeRankedCommunicator(std::unique_ptr<Transport> transport,
                                                             const CommunicatorOptions& options) {
  STRATA_ASSIGN_OR_RETURN(std::unique_ptr<World> world,
                          World::Create(std::move(transport), options));
  return std::unique_ptr<Communicator>(std::make_unique<RankedCommunicator>(std::move(world)));
}

}  // namespace strata::engine
