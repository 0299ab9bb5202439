#include "engine/comm/internal/ranked_channel.h"

#include <fmt/format.h>

#include <cstring>

#include "engine/comm/internal/direct_sum.h"
#include "engine/comm/internal/gather.h"
#include "engine/comm/internal/spread.h"

namespace strata::engine {
namespace {

constexpr size_t kMostNumbers = 4096;  // that AllReduceSum() is for

}  // namespace

RankedChannel::RankedChannel(World* world, ChannelId id)
    : world_(*world),
      state_{.id = id, .messages = Messages(&world->transport(), id)},
      buffers_(PieceElements(world->ranks(), id), world->ranks().num_nodes() > 1) {}

// Before the caller has its memory back, nobody may still touch it; and two threads at once on a
// channel are our own mistake, not the job's.
Status RankedChannel::Do(const std::function<Status()>& collective) {
  STRATA_CHECK(!is_busy_.exchange(true));
  Status status = collective();
  if (!status.ok()) world_.Quiesce();
  is_busy_.store(false);
  return status;
}

Status RankedChannel::AllGather(const Stream& stream, std::span<const std::byte> shard,
                                std::span<std::byte> whole) {
  STRATA_CHECK(whole.size() == shard.size() * world_.ranks().world_size());
  if (IsOnGpu(stream))
    return OnGpu(Collective::kAllGather,
                 [&] { return gpu_link_->AllGather(stream, shard, whole); });
  return Gathered(Collective::kAllGather, shard, whole);
}

Status RankedChannel::OnGpu(Collective collective, const std::function<Status()>& enqueue) {
  if (gpu_link_ == nullptr) {
    return Internal(fmt::format("{}: {}: the payload is on a GPU, and {}", ChannelName(state_.id),
                                CollectiveName(collective),
                                state_.id == ChannelId::kCommLane
                                    ? "this rank's GPU is not in use for collectives yet"
                                    : "only the comm lane exchanges such"));
  }
  Count(collective);
  return world_.failed() ? world_.Check([] { return ""; }) : enqueue();
}

Status RankedChannel::Gathered(Collective collective, std::span<const std::byte> own,
                               std::span<std::byte> whole) {
  STRATA_CHECK(whole.size() == own.size() * world_.ranks().world_size());
  Count(collective);
  return Do([&] {
    return Gather(&world_, &state_, own, whole, own.size()).Run({.collective = collective});
  });
}

Status RankedChannel::ReduceScatter(const Stream& stream, std::span<const std::byte> whole,
                                    std::span<std::byte> shard, DType dtype) {
  STRATA_CHECK(whole.size() == shard.size() * world_.ranks().world_size());
  STRATA_CHECK(shard.size() % SizeOf(dtype) == 0);
  if (IsOnGpu(stream)) {
    return OnGpu(Collective::kReduceScatter,
                 [&] { return gpu_link_->ReduceScatter(stream, whole, shard, dtype); });
  }
  Count(Collective::kReduceScatter);
  return Do([&] {
    return SumSegment({.collective = Collective::kReduceScatter}, whole, shard,
                      shard.size() / SizeOf(dtype), dtype);
  });
}

Status RankedChannel::SumSegment(Announcement announcement, std::span<const std::byte> whole,
                                 std::span<std::byte> shard, uint64_t stride_elements,
                                 DType dtype) {
  if (SumsDirectly(world_.ranks(), dtype)) {
    return DirectSum(&world_, &state_, &arriving_, whole, shard, stride_elements, dtype)
        .Run(announcement);
  }
  return OrderedSum(&world_, &state_, &buffers_, whole, shard, stride_elements, dtype)
      .Run(announcement);
}

// Each rank sums a segment, in place, and all gather the sums.
Status RankedChannel::AllReduce(const Stream& stream, std::span<std::byte> numbers, DType dtype) {
  STRATA_CHECK(numbers.size() % SizeOf(dtype) == 0);
  if (IsOnGpu(stream)) {
    return OnGpu(Collective::kAllReduce,
                 [&] { return gpu_link_->AllReduce(stream, numbers, dtype); });
  }
  constexpr uint64_t kLineElements = 64;  // so that segments begin at lines of the cache if the
                                          // numbers do
  const RankMap& ranks = world_.ranks();
  const uint64_t num_elements = numbers.size() / SizeOf(dtype);
  const uint64_t stride = RoundUp(CeilDiv(num_elements, ranks.world_size()), kLineElements);
  const uint64_t begin = std::min(num_elements, ranks.rank() * stride);
  const uint64_t end = std::min(num_elements, begin + stride);
  const std::span<std::byte> own =
      numbers.subspan(begin * SizeOf(dtype), (end - begin) * SizeOf(dtype));
  Count(Collective::kAllReduce);
  return Do([&] {
    STRATA_RETURN_IF_ERROR(
        SumSegment({.collective = Collective::kAllReduce}, numbers, own, stride, dtype));
    return Gather(&world_, &state_, own, numbers, stride * SizeOf(dtype))
        .Run({.collective = Collective::kAllReduce, .dtype = dtype});
  });
}

Status RankedChannel::AllReduceSum(std::span<double> numbers) {
  STRATA_CHECK(numbers.size() <= kMostNumbers);
  const uint32_t world = world_.ranks().world_size();
  small_.resize(numbers.size_bytes() * world);
  STRATA_RETURN_IF_ERROR(Gathered(Collective::kSum, std::as_bytes(numbers), small_));
  for (uint32_t rank = 0; rank < world; ++rank) {
    for (size_t i = 0; i < numbers.size(); ++i) {
      double term = 0;
      std::memcpy(&term, small_.data() + (rank * numbers.size() + i) * sizeof(term), sizeof(term));
      numbers[i] = rank == 0 ? term : numbers[i] + term;
    }
  }
  return OkStatus();
}

Status RankedChannel::Broadcast(const Stream& stream, std::span<std::byte> bytes, uint32_t root) {
  STRATA_CHECK(root < world_.ranks().world_size());
  if (IsOnGpu(stream)) {
    return OnGpu(Collective::kBroadcast, [&] { return gpu_link_->Broadcast(stream, bytes, root); });
  }
  Count(Collective::kBroadcast);
  return Do([&] {
    return Spread(&world_, &state_, bytes, root).Run({.collective = Collective::kBroadcast});
  });
}

// Whoever has a byte of every rank knows that every rank has come.
Status RankedChannel::Barrier() {
  const std::byte here{1};
  small_.resize(world_.ranks().world_size());
  return Gathered(Collective::kBarrier, std::span(&here, 1), small_);
}

}  // namespace strata::engine
