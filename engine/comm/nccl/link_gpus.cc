// How a rank comes to its NcclLink.
#include <fmt/format.h>

#include <array>
#include <thread>
#include <utility>
#include <vector>

#include "engine/comm/nccl/gpu_meeting.h"
#include "engine/comm/nccl/nccl_link.h"
#include "engine/kernels/cuda/launch.h"
#include "tiering/cuda_status.h"

namespace strata::engine {
namespace {

Status NcclStatus(const NcclFunctions& nccl, NcclResult result, std::string_view what) {
  if (result == NcclResult::kSuccess) return OkStatus();
  return Internal(fmt::format("{}: NCCL: {}", what, nccl.get_error_string(result)));
}

// What one rank brings along.
struct Own {
  NcclFunctions nccl = {};
  uint64_t free_bytes = 0;  // of the GPU, before
  GpuMemory staging;
  GpuFacts facts;
};

Result<Own> Prepare(const RankMap& ranks, const GpuOptions& options) {
  Own own;
  if (options.nccl != nullptr) {
    own.nccl = *options.nccl;
  } else {
    STRATA_ASSIGN_OR_RETURN(own.nccl, LoadNccl());
  }
  STRATA_RETURN_IF_ERROR(
      NcclStatus(own.nccl, own.nccl.get_version(&own.facts.nccl_version), "ask for its version"));
  STRATA_RETURN_IF_ERROR(tiering::CudaStatus(cudaSetDevice(options.device),
                                             fmt::format("choose GPU {}", options.device)));
  own.free_bytes = FreeGpuBytes();
  std::array<char, 32> bus_id = {};
  STRATA_RETURN_IF_ERROR(tiering::CudaStatus(
      cudaDeviceGetPCIBusId(bus_id.data(), static_cast<int>(bus_id.size()), options.device),
      fmt::format("find GPU {} on the bus", options.device)));
  own.facts.bus_id = bus_id.data();
  // What is left over of an all-reduce is less than 16 bytes per rank, and is gathered whole.
  const uint64_t least = uint64_t{16} * ranks.world_size() * ranks.world_size();
  if (options.staging_bytes < least) {
    return InvalidArgument(fmt::format("collectives of {} ranks need {} bytes of staging, not {}",
                                       ranks.world_size(), least, options.staging_bytes));
  }
  STRATA_ASSIGN_OR_RETURN(own.staging, GpuMemory::Allocate(options.staging_bytes));
  if (ranks.rank() == 0) {
    STRATA_RETURN_IF_ERROR(NcclStatus(own.nccl, own.nccl.get_unique_id(&own.facts.id),
                                      "make the id by which ranks find each other"));
  }
  return own;
}

// A stream of its own, for trying out.
class TrialStream {
 public:
  static Result<std::unique_ptr<TrialStream>> Create() {
    std::unique_ptr<TrialStream> stream(new TrialStream);
    STRATA_RETURN_IF_ERROR(tiering::CudaStatus(
        cudaStreamCreateWithFlags(&stream->stream_, cudaStreamNonBlocking), "create a stream"));
    STRATA_RETURN_IF_ERROR(tiering::CudaStatus(
        cudaEventCreateWithFlags(&stream->end_, cudaEventDisableTiming), "create an event"));
    return stream;
  }
  ~TrialStream() {
    if (end_ != nullptr) static_cast<void>(cudaEventDestroy(end_));
    if (stream_ != nullptr) static_cast<void>(cudaStreamDestroy(stream_));
  }
  TrialStream(const TrialStream&) = delete;
  TrialStream& operator=(const TrialStream&) = delete;

  tiering::StreamContext context() const { return {.native_stream = stream_}; }
  cudaStream_t native() const { return stream_; }
  // Until it is idle, or the ranks have failed: then NCCL is ended, and so is what is on it.
  Status Await(World& world) {
    cudaError_t error = cudaEventRecord(end_, stream_);
    if (error == cudaSuccess) error = cudaErrorNotReady;
    while (error == cudaErrorNotReady) {
      STRATA_RETURN_IF_ERROR(world.Check([] { return "the first collectives of the GPU"; }));
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      error = cudaEventQuery(end_);
    }
    if (error == cudaSuccess) return world.Check([] { return "the first collectives of the GPU"; });
    return world.Fail(tiering::CudaStatus(error, "wait for the first collectives of the GPU"));
  }

 private:
  TrialStream() = default;

  cudaStream_t stream_ = nullptr;
  cudaEvent_t end_ = nullptr;
};

}  // namespace

Status NcclLink::TryOut() {
  const uint64_t world = world_size();
  const uint64_t own_bytes = sizeof(float);
  STRATA_ASSIGN_OR_RETURN(const GpuMemory memory, GpuMemory::Allocate(2 * world * own_bytes));
  STRATA_ASSIGN_OR_RETURN(const std::unique_ptr<TrialStream> trial, TrialStream::Create());
  const tiering::StreamContext stream = trial->context();
  const std::span<std::byte> whole = memory.bytes().first(world * own_bytes);
  const std::span<std::byte> gathered = memory.bytes().last(world * own_bytes);
  // Rank r adds (r + 1) (s + 1) to what rank s has in the end.
  std::vector<float> numbers(world);
  for (uint64_t s = 0; s < world; ++s) numbers[s] = static_cast<float>((rank() + 1) * (s + 1));
  // On the stream: a cudaMemcpy() of memory that is not pinned may arrive after it has returned.
  STRATA_RETURN_IF_ERROR(
      tiering::CudaStatus(cudaMemcpyAsync(whole.data(), numbers.data(), whole.size(),
                                          cudaMemcpyHostToDevice, trial->native()),
                          "copy to the GPU"));
  const std::span<std::byte> sum = whole.subspan(rank() * own_bytes, own_bytes);
  STRATA_RETURN_IF_ERROR(ReduceScatter(stream, whole, sum, DType::kF32));
  STRATA_RETURN_IF_ERROR(AllGather(stream, sum, gathered));
  STRATA_RETURN_IF_ERROR(Broadcast(stream, gathered, 0));
  // A few bytes go another way than many, which NCCL connects when it is first gone.
  STRATA_RETURN_IF_ERROR(AllGather(stream, std::span<const std::byte>(Slot(rank()), slot_bytes_),
                                   parts_.staging.bytes().first(slot_bytes_ * world)));
  STRATA_RETURN_IF_ERROR(trial->Await(*parts_.world));
  STRATA_RETURN_IF_ERROR(tiering::CudaStatus(
      cudaMemcpy(numbers.data(), gathered.data(), gathered.size(), cudaMemcpyDeviceToHost),
      "copy from the GPU"));
  for (uint64_t s = 0; s < world; ++s) {
    const auto expected = static_cast<float>(world * (world + 1) / 2 * (s + 1));
    if (numbers[s] == expected) continue;
    return Internal(fmt::format(
        "the first collectives of the GPUs gave {} for rank {}'s sum, which is {}: look at the "
        "GPUs' links (nvidia-smi topo -m), or at NCCL with NCCL_P2P_DISABLE=1",
        numbers[s], s, expected));
  }
  return OkStatus();
}

Result<std::unique_ptr<GpuLink>> LinkGpus(World* world, Channel* control,
                                          const GpuOptions& options) {
  Result<Own> own = Prepare(world->ranks(), options);
  const Result<GpuFacts> mine = own.ok() ? Result<GpuFacts>(own->facts) : own.status();
  STRATA_ASSIGN_OR_RETURN(
      const GpuFacts facts,
      MeetOnGpus(*world, world->transport().first_rank_of_machine(), *control, mine));
  const auto link = [&]() -> Result<std::unique_ptr<NcclLink>> {
    NcclLink::Parts parts{.world = world,
                          .device = options.device,
                          .nccl_version = facts.nccl_version,
                          .comm = nullptr,
                          .staging = std::move(own->staging)};
    STRATA_ASSIGN_OR_RETURN(
        parts.comm, NcclComm::Create(own->nccl,
                                     {.rank = world->ranks().rank(),
                                      .world_size = world->ranks().world_size(),
                                      .id = facts.id,
                                      .deadline = world->deadline()},
                                     [&] { return world->Check([] { return "start NCCL"; }); }));
    STRATA_ASSIGN_OR_RETURN(std::unique_ptr<NcclLink> made, NcclLink::Create(std::move(parts)));
    STRATA_RETURN_IF_ERROR(made->TryOut());
    made->MeasureMemory(own->free_bytes);
    return made;
  };
  Result<std::unique_ptr<NcclLink>> linked = link();
  // The others wait in NCCL, where only a failure of all reaches them.
  if (!linked.ok()) {
    return world->Fail(
        linked.status().With(fmt::format("use the GPU of rank {}", world->ranks().rank())));
  }
  STRATA_RETURN_IF_ERROR(control->Barrier());
  return std::unique_ptr<GpuLink>(*std::move(linked));
}

Status CopyOnGpu(const tiering::StreamContext& stream, std::span<std::byte> to,
                 std::span<const std::byte> from) {
  STRATA_CHECK(to.size() == from.size());
  return tiering::CudaStatus(cudaMemcpyAsync(to.data(), from.data(), from.size(),
                                             cudaMemcpyDeviceToDevice, cuda::NativeStream(stream)),
                             "copy on the GPU");
}

}  // namespace strata::engine
