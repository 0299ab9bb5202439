#include "engine/comm/nccl/nccl_link.h"

#include <fmt/format.h>

#include <algorithm>
#include <thread>
#include <utility>
#include <vector>

#include "aio/base/units.h"
#include "engine/comm/nccl/node_sums.h"
#include "engine/comm/nccl/rank_sum.h"
#include "engine/kernels/cuda/launch.h"
#include "tiering/cuda_status.h"

namespace strata::engine {
namespace {

constexpr uint64_t kPackBytes = 16;  // what slots and segments are aligned to

}  // namespace

void GpuMemory::Free::operator()(std::byte* memory) const {
  static_cast<void>(cudaFree(memory));  // what it would say of earlier work has been said
}

Result<GpuMemory> GpuMemory::Allocate(uint64_t size_bytes) {
  void* memory = nullptr;
  STRATA_RETURN_IF_ERROR(
      tiering::CudaStatus(cudaMalloc(&memory, size_bytes),
                          fmt::format("allocate {} of GPU memory for collectives: end what else "
                                      "uses the GPU (nvidia-smi tells)",
                                      FormatBytes(size_bytes))));
  GpuMemory allocated;
  allocated.memory_.reset(static_cast<std::byte*>(memory));
  allocated.size_bytes_ = size_bytes;
  return allocated;
}

uint64_t FreeGpuBytes() {
  size_t free_bytes = 0;
  size_t total_bytes = 0;
  return cudaMemGetInfo(&free_bytes, &total_bytes) == cudaSuccess ? free_bytes : 0;
}

NcclLink::NcclLink(Parts parts)
    : parts_(std::move(parts)),
      slot_bytes_(parts_.staging.bytes().size() / world_size() / kPackBytes * kPackBytes) {}

Result<std::unique_ptr<NcclLink>> NcclLink::Create(Parts parts) {
  std::unique_ptr<NcclLink> link(new NcclLink(std::move(parts)));
  STRATA_ASSIGN_OR_RETURN(
      link->watch_, NcclWatch::Start(link->parts_.world, link->parts_.comm.get(), &link->flights_,
                                     link->parts_.device));
  return link;
}

NcclLink::~NcclLink() {
  watch_.reset();
  parts_.world->failed() ? parts_.comm->Abort() : parts_.comm->Finish();
}

std::string NcclLink::description() const {
  return fmt::format("NCCL {}", NcclVersionText(parts_.nccl_version));
}

void NcclLink::MeasureMemory(uint64_t free_bytes_before) {
  const uint64_t now = FreeGpuBytes();
  // Others may use and leave the GPU at the same time; the staging is there in any case.
  gpu_bytes_ = std::max<uint64_t>(parts_.staging.bytes().size(),
                                  free_bytes_before - std::min(free_bytes_before, now));
}

Communicator::Waits NcclLink::waits() const {
  const bool waits = !parts_.world->failed() && flights_.waiting().has_value();
  return {.now = waits ? 1u : 0u, .ended = flights_.num_ended()};
}

Status NcclLink::Fly(const Stream& stream, const Announcement& announcement, const Body& body) {
  const cudaStream_t native = cuda::NativeStream(stream);
  Announcement own = announcement;
  const auto put = [&]() -> Status {
    STRATA_RETURN_IF_ERROR(tiering::CudaStatus(cudaSetDevice(parts_.device), "choose the GPU"));
    STRATA_ASSIGN_OR_RETURN(own, flights_.Begin(native, announcement));
    Show(own);
    Status done = body();
    if (done.ok()) done = flights_.End(native);
    if (!done.ok()) flights_.GiveUp();
    return done;
  };
  const Status status = put();
  if (status.ok()) return status;
  return parts_.world->Fail(status.With(NcclWatch::Doing(*parts_.world, own)));
}

// Others may look at it while it is overwritten, 32 collectives later: who has seen anything of the
// new one sees that the number is another.
void NcclLink::Show(const Announcement& announcement) {
  GpuBoard::Kept& kept =
      parts_.world->memory().own_board().gpu.kept[announcement.number % GpuBoard::kNumKept];
  kept.number.store(0, std::memory_order_relaxed);
  kept.what.store(static_cast<uint64_t>(announcement.collective) |
                      static_cast<uint64_t>(announcement.dtype) << 8 |
                      static_cast<uint64_t>(announcement.root) << 32,
                  std::memory_order_release);
  kept.size_bytes.store(announcement.size_bytes, std::memory_order_release);
  kept.number.store(announcement.number, std::memory_order_release);
}

Status NcclLink::AllGather(const Stream& stream, std::span<const std::byte> shard,
                           std::span<std::byte> whole) {
  Count(Collective::kAllGather, ExchangeTraffic(shard.size()));
  return Fly(stream, {.collective = Collective::kAllGather, .size_bytes = whole.size()},
             [&] { return Gather(stream, shard, whole); });
}

Status NcclLink::Gather(const Stream& stream, std::span<const std::byte> shard,
                        std::span<std::byte> whole) {
  if (shard.empty()) return OkStatus();
  return parts_.comm->Do(
      [&](const NcclFunctions& nccl, ncclComm* comm) {
        return nccl.all_gather(shard.data(), whole.data(), shard.size(), NcclType::kByte, comm,
                               cuda::NativeStream(stream));
      },
      "all-gather");
}

Status NcclLink::ReduceScatter(const Stream& stream, std::span<const std::byte> whole,
                               std::span<std::byte> shard, DType dtype) {
  Count(Collective::kReduceScatter, SumTraffic(shard.size(), dtype));
  return Fly(stream,
             {.collective = Collective::kReduceScatter, .dtype = dtype, .size_bytes = whole.size()},
             [&] {
               return SumSegments(stream, whole, shard.size() / SizeOf(dtype), shard.data(), dtype);
             });
}

Status NcclLink::SumSegments(const Stream& stream, std::span<const std::byte> whole,
                             uint64_t stride, std::byte* sum, DType dtype) {
  const RankMap& ranks = parts_.world->ranks();
  if (SumsNodeByNode(ranks, dtype)) {
    return NodeSums({.ranks = &ranks,
                     .comm = parts_.comm.get(),
                     .staging = parts_.staging.bytes(),
                     .whole = whole,
                     .segment_elements = stride,
                     .sum = sum,
                     .dtype = dtype})
        .Run(stream);
  }
  const uint64_t piece = slot_bytes_ / SizeOf(dtype);
  for (uint64_t offset = 0; offset < stride; offset += piece) {
    STRATA_RETURN_IF_ERROR(
        SumPiece(stream, whole, stride, offset, std::min(piece, stride - offset), sum, dtype));
  }
  return OkStatus();
}

// Each rank sends every other the piece of that one's segment, and adds up those of its own. The
// stream keeps the next piece from arriving before this one is added up.
Status NcclLink::SumPiece(const Stream& stream, std::span<const std::byte> whole, uint64_t stride,
                          uint64_t offset, uint64_t num_elements, std::byte* sum, DType dtype) {
  const uint64_t size_bytes = num_elements * SizeOf(dtype);
  const auto at = [&](uint32_t of_rank) {
    return whole.data() + (of_rank * stride + offset) * SizeOf(dtype);
  };
  const cudaStream_t native = cuda::NativeStream(stream);
  STRATA_RETURN_IF_ERROR(parts_.comm->DoTogether(
      [&](const NcclFunctions& nccl, ncclComm* comm) {
        // Not all to rank 0 first.
        for (uint32_t step = 1; step < world_size(); ++step) {
          const uint32_t to = (rank() + step) % world_size();
          const uint32_t from = (rank() + world_size() - step) % world_size();
          const NcclResult sent =
              nccl.send(at(to), size_bytes, NcclType::kByte, static_cast<int>(to), comm, native);
          if (sent != NcclResult::kSuccess && sent != NcclResult::kInProgress) return sent;
          const NcclResult asked = nccl.receive(Slot(from), size_bytes, NcclType::kByte,
                                                static_cast<int>(from), comm, native);
          if (asked != NcclResult::kSuccess && asked != NcclResult::kInProgress) return asked;
        }
        return NcclResult::kSuccess;
      },
      "exchange what is to be added up"));
  return SumInRankOrder(stream,
                        {.own = at(rank()),
                         .arrived = Slot(0),
                         .stride_bytes = slot_bytes_,
                         .rank = rank(),
                         .world_size = world_size()},
                        dtype, num_elements, sum + offset * SizeOf(dtype));
}

// Each rank sums a segment, in place, and all gather the sums; the few that are left over, every
// rank adds up.
Status NcclLink::AllReduce(const Stream& stream, std::span<std::byte> numbers, DType dtype) {
  const uint64_t pack = kPackBytes / SizeOf(dtype);
  const uint64_t num_elements = numbers.size() / SizeOf(dtype);
  const uint64_t stride = num_elements / (world_size() * pack) * pack;
  const uint64_t stride_bytes = stride * SizeOf(dtype);
  const std::span<std::byte> even = numbers.first(stride_bytes * world_size());
  const std::span<std::byte> rest = numbers.subspan(even.size());
  Count(Collective::kAllReduce, SumTraffic(stride_bytes, dtype));
  Count(Collective::kAllReduce, ExchangeTraffic(stride_bytes + rest.size()));
  return Fly(stream,
             {.collective = Collective::kAllReduce, .dtype = dtype, .size_bytes = numbers.size()},
             [&]() -> Status {
               if (stride > 0) {
                 const std::span<std::byte> own = even.subspan(rank() * stride_bytes, stride_bytes);
                 STRATA_RETURN_IF_ERROR(SumSegments(stream, even, stride, own.data(), dtype));
                 STRATA_RETURN_IF_ERROR(Gather(stream, own, even));
               }
               return rest.empty() ? OkStatus() : SumEverywhere(stream, rest, dtype);
             });
}

Status NcclLink::SumEverywhere(const Stream& stream, std::span<std::byte> numbers, DType dtype) {
  const std::span<std::byte> all = parts_.staging.bytes().first(numbers.size() * world_size());
  STRATA_RETURN_IF_ERROR(Gather(stream, numbers, all));
  return SumInRankOrder(stream,
                        {.own = all.data() + rank() * numbers.size(),
                         .arrived = all.data(),
                         .stride_bytes = numbers.size(),
                         .rank = rank(),
                         .world_size = world_size()},
                        dtype, numbers.size() / SizeOf(dtype), numbers.data());
}

Status NcclLink::Broadcast(const Stream& stream, std::span<std::byte> bytes, uint32_t root) {
  const bool is_root = root == rank();
  const RankMap& ranks = parts_.world->ranks();
  const uint64_t others = world_size() - 1;
  const uint64_t far = is_root ? world_size() - ranks.local_size() : !ranks.is_local(root);
  parts_.world->counter().Add(Collective::kBroadcast,
                              {.bytes_sent = is_root ? bytes.size() * others : 0,
                               .bytes_received = is_root ? 0 : bytes.size(),
                               .bytes_sent_between_nodes = is_root ? bytes.size() * far : 0,
                               .bytes_received_between_nodes = is_root ? 0 : bytes.size() * far});
  return Fly(
      stream, {.collective = Collective::kBroadcast, .root = root, .size_bytes = bytes.size()},
      [&]() -> Status {
        if (bytes.empty()) return OkStatus();
        return parts_.comm->Do(
            [&](const NcclFunctions& nccl, ncclComm* comm) {
              return nccl.broadcast(bytes.data(), bytes.data(), bytes.size(), NcclType::kByte,
                                    static_cast<int>(root), comm, cuda::NativeStream(stream));
            },
            "broadcast");
      });
}

void NcclLink::Count(Collective collective, const Traffic& traffic) {
  parts_.world->counter().Add(collective, traffic);
}

Traffic NcclLink::ExchangeTraffic(uint64_t bytes) const {
  const RankMap& ranks = parts_.world->ranks();
  const uint64_t all = bytes * (ranks.world_size() - 1);
  const uint64_t far = bytes * (ranks.world_size() - ranks.local_size());
  return {.bytes_sent = all,
          .bytes_received = all,
          .bytes_sent_between_nodes = far,
          .bytes_received_between_nodes = far};
}

Traffic NcclLink::SumTraffic(uint64_t segment_bytes, DType dtype) const {
  const RankMap& ranks = parts_.world->ranks();
  return SumsNodeByNode(ranks, dtype) ? TrafficOfNodeSums(ranks, dtype, segment_bytes)
                                      : ExchangeTraffic(segment_bytes);
}

}  // namespace strata::engine
