#include "tests/engine/comm/collectives_suite.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "aio/base/units.h"
#include "aio/io_buffer.h"
#include "tests/or_die.h"

namespace strata::engine {
namespace {

// Of what a rank contributes: numbers of very different sizes, so that sums in another order
// differ.
float Number(uint64_t seed, uint32_t rank, uint64_t i) {
  uint64_t bits = (seed * 1000003 + rank) * 0x9e3779b97f4a7c15 + i;
  bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9;
  bits = (bits ^ (bits >> 27)) * 0x94d049bb133111eb;
  bits ^= bits >> 31;
  const uint32_t exponent = 107 + static_cast<uint32_t>(bits >> 32) % 40;
  return std::bit_cast<float>((static_cast<uint32_t>(bits) & 0x807fffffu) | exponent << 23);
}

void Store(std::byte* to, uint64_t i, float value, DType dtype) {
  const Bf16 rounded = ToBf16(value);
  const F16 half = ToHalf(value);
  if (dtype == DType::kF32) std::memcpy(to + 4 * i, &value, 4);
  if (dtype == DType::kBf16) std::memcpy(to + 2 * i, &rounded, 2);
  if (dtype == DType::kF16) std::memcpy(to + 2 * i, &half, 2);
}

float Contribution(uint64_t seed, uint32_t rank, uint64_t i, DType dtype) {
  const float number = Number(seed, rank, i);
  if (dtype == DType::kF16) return FromHalf(ToHalf(number));
  return dtype == DType::kBf16 ? FromBf16(ToBf16(number)) : number;
}

float Sum(uint64_t seed, uint32_t world, uint64_t i, DType dtype) {
  float sum = Contribution(seed, 0, i, dtype);
  for (uint32_t rank = 1; rank < world; ++rank) sum += Contribution(seed, rank, i, dtype);
  return sum;
}

// Of one channel in host memory: half where it is shared, half not, at odd places.
class HostPayloads final : public Payloads {
 public:
  HostPayloads(std::span<std::byte> shared, uint64_t seed) : Payloads(seed), shared_(shared) {
    private_.resize(shared.size());
  }
  void Reset() override { used_ = 0; }
  std::span<std::byte> Take(uint64_t size_bytes) override {
    const uint64_t offset = used_ + Random() % 3 * 4 + (Random() % 4 == 0 ? 1 : 0);
    used_ = offset + size_bytes;
    STRATA_CHECK(used_ <= shared_.size());
    return (Coin() ? shared_ : std::span(private_)).subspan(offset, size_bytes);
  }
  tiering::StreamContext stream() const override { return {}; }
  void Write(std::span<std::byte> to, std::span<const std::byte> bytes) override {
    std::copy(bytes.begin(), bytes.end(), to.begin());
  }
  std::vector<std::byte> Read(std::span<const std::byte> from) override {
    return {from.begin(), from.end()};
  }

 private:
  std::span<std::byte> shared_;
  std::vector<std::byte> private_;
  uint64_t used_ = 0;
};

// One collective against the reference; `seed` is the same on all ranks.
class Check {
 public:
  Check(Communicator& communicator, ChannelId id, Payloads* payloads, uint64_t seed)
      : channel_(communicator.channel(id)),
        rank_(communicator.rank()),
        world_(communicator.world_size()),
        payloads_(*payloads),
        seed_(seed) {
    payloads_.Reset();
  }

  void AllGather(uint64_t shard_bytes) {
    const auto [whole, shard] = TakeWholeAndShard(shard_bytes);
    payloads_.Write(whole, std::vector(whole.size(), std::byte{0xee}));
    payloads_.Write(shard, BytesOf(rank_, shard_bytes));
    Ok(channel_.AllGather(payloads_.stream(), shard, whole));
    const std::vector<std::byte> found = payloads_.Read(whole);
    for (uint32_t rank = 0; rank < world_; ++rank) {
      for (uint64_t i = 0; i < shard_bytes; ++i)
        if (found[rank * shard_bytes + i] != ByteOf(rank, i)) return Wrong("all-gather", rank, i);
    }
  }

  void ReduceScatter(uint64_t shard_elements, DType dtype) {
    const auto [whole, shard] = TakeWholeAndShard(shard_elements * SizeOf(dtype));
    Contribute(whole, shard_elements * world_, dtype);
    Ok(channel_.ReduceScatter(payloads_.stream(), whole, shard, dtype));
    ExpectSums("reduce-scatter", payloads_.Read(shard), rank_ * shard_elements, shard_elements,
               dtype);
  }

  void AllReduce(uint64_t num_elements, DType dtype) {
    const std::span<std::byte> numbers = payloads_.Take(num_elements * SizeOf(dtype));
    Contribute(numbers, num_elements, dtype);
    Ok(channel_.AllReduce(payloads_.stream(), numbers, dtype));
    ExpectSums("all-reduce", payloads_.Read(numbers), 0, num_elements, dtype);
  }

  void Broadcast(uint64_t size_bytes, uint32_t root) {
    const std::span<std::byte> bytes = payloads_.Take(size_bytes);
    payloads_.Write(bytes, BytesOf(rank_, size_bytes));
    Ok(channel_.Broadcast(payloads_.stream(), bytes, root));
    const std::vector<std::byte> found = payloads_.Read(bytes);
    for (uint64_t i = 0; i < size_bytes; ++i)
      if (found[i] != ByteOf(root, i)) return Wrong("broadcast", root, i);
  }

  void AllReduceSum(size_t count) {
    std::vector<double> numbers(count);
    for (size_t i = 0; i < count; ++i) numbers[i] = Number(seed_, rank_, i);
    Ok(channel_.AllReduceSum(numbers));
    for (size_t i = 0; i < count; ++i) {
      double sum = Number(seed_, 0, i);
      for (uint32_t rank = 1; rank < world_; ++rank) sum += Number(seed_, rank, i);
      if (numbers[i] != sum) return Wrong("sum", 0, i);
    }
  }

  void Barrier() { Ok(channel_.Barrier()); }

  void Random(std::mt19937_64& random) {
    const uint64_t largest = random() % 8 == 0 ? 1'200'000 : 3000;
    const uint64_t size = random() % largest / world_;
    constexpr std::array kDTypes = {DType::kF32, DType::kBf16, DType::kF16};
    const DType dtype = kDTypes[random() % kDTypes.size()];
    const auto root = static_cast<uint32_t>(random() % world_);
    switch (random() % 6) {
      case 0:
        return AllGather(size * 4 + random() % 4);
      case 1:
        return ReduceScatter(size, dtype);
      case 2:
        return AllReduce(size * world_ + random() % world_, dtype);
      case 3:
        return Broadcast(size * 4 + random() % 4, root);
      case 4:
        return AllReduceSum(size % 100);
      default:
        return Barrier();
    }
  }

 private:
  std::byte ByteOf(uint32_t rank, uint64_t i) const {
    return static_cast<std::byte>((seed_ + rank * 31 + i * 7 + (i >> 8)) & 0xff);
  }
  std::vector<std::byte> BytesOf(uint32_t rank, uint64_t size_bytes) const {
    std::vector<std::byte> bytes(size_bytes);
    for (uint64_t i = 0; i < size_bytes; ++i) bytes[i] = ByteOf(rank, i);
    return bytes;
  }
  // The shard is its place in the whole, or elsewhere.
  std::pair<std::span<std::byte>, std::span<std::byte>> TakeWholeAndShard(uint64_t shard_bytes) {
    const std::span<std::byte> whole = payloads_.Take(shard_bytes * world_);
    if (payloads_.Coin()) return {whole, payloads_.Take(shard_bytes)};
    return {whole, whole.subspan(rank_ * shard_bytes, shard_bytes)};
  }
  void Contribute(std::span<std::byte> to, uint64_t num_elements, DType dtype) {
    std::vector<std::byte> numbers(to.size());
    for (uint64_t i = 0; i < num_elements; ++i)
      Store(numbers.data(), i, Number(seed_, rank_, i), dtype);
    payloads_.Write(to, numbers);
  }
  void ExpectSums(const char* what, const std::vector<std::byte>& found, uint64_t first,
                  uint64_t num_elements, DType dtype) {
    std::vector<std::byte> expected(found.size());
    for (uint64_t i = 0; i < num_elements; ++i)
      Store(expected.data(), i, Sum(seed_, world_, first + i, dtype), dtype);
    for (uint64_t i = 0; i < found.size(); ++i)
      if (found[i] != expected[i]) return Wrong(what, rank_, i);
  }
  void Ok(const Status& status) { ASSERT_TRUE(status.ok()) << status.ToString(); }
  void Wrong(const char* what, uint32_t rank, uint64_t at) {
    ADD_FAILURE() << fmt::format("seed {} rank {}: {} is wrong at byte {} of rank {}'s part", seed_,
                                 rank_, what, at, rank);
  }

  Channel& channel_;
  const uint32_t rank_;
  const uint32_t world_;
  Payloads& payloads_;
  const uint64_t seed_;
};

}  // namespace

void CheckEveryCollective(Communicator& communicator) {
  aio::HugeMemory memory = OrDie(aio::HugeMemory::Map(kPayloadBytes, aio::Sharing::kShared));
  const Status shared = communicator.ShareMemory(memory.bytes(), memory.fd());
  ASSERT_TRUE(shared.ok()) << shared.ToString();
  HostPayloads payloads(memory.bytes(), communicator.rank());
  CheckEveryCollectiveOn(communicator, payloads);
  communicator.UnshareMemory(memory.bytes());
}

void CheckEveryCollectiveOn(Communicator& communicator, Payloads& payloads,
                            uint64_t most_elements) {
  uint64_t seed = 0;
  const auto check = [&] { return Check(communicator, ChannelId::kCommLane, &payloads, ++seed); };
  const uint32_t world = communicator.world_size();
  // Large ones are of several rows, and not a multiple of anything.
  for (const uint64_t size : {uint64_t{0}, uint64_t{1}, uint64_t{3}, uint64_t{64}, uint64_t{1000},
                              most_elements / 5, most_elements}) {
    check().AllGather(size);
    check().AllGather(size * 4 + 1);
    for (const DType dtype : {DType::kF32, DType::kBf16, DType::kF16}) {
      check().ReduceScatter(size, dtype);
      check().AllReduce(size * world, dtype);
      check().AllReduce(size + 1, dtype);
    }
    for (uint32_t root = 0; root < world; ++root) check().Broadcast(size * 4 + 3, root);
    check().AllReduceSum(size % 100);
    check().Barrier();
  }
  const Status left = communicator.channel(ChannelId::kControl).Barrier();
  EXPECT_TRUE(left.ok()) << left.ToString();
}

void CheckRandomSequences(Communicator& communicator, uint64_t seed, int num_collectives) {
  aio::HugeMemory memory = OrDie(aio::HugeMemory::Map(2 * kPayloadBytes, aio::Sharing::kShared));
  const Status shared = communicator.ShareMemory(memory.bytes(), memory.fd());
  ASSERT_TRUE(shared.ok()) << shared.ToString();
  const auto run = [&](ChannelId id, std::span<std::byte> where, uint64_t own_seed) {
    HostPayloads payloads(where, own_seed + 1000 * communicator.rank());
    CheckRandomSequenceOn(communicator, id, payloads, own_seed, num_collectives);
  };
  std::jthread other(
      [&] { run(ChannelId::kCpuLane, memory.bytes().last(kPayloadBytes), seed * 7919 + 1); });
  run(ChannelId::kCommLane, memory.bytes().first(kPayloadBytes), seed * 7919);
  other.join();
  const Status left = communicator.channel(ChannelId::kControl).Barrier();
  EXPECT_TRUE(left.ok()) << left.ToString();
  communicator.UnshareMemory(memory.bytes());
}

void CheckRandomSequenceOn(Communicator& communicator, ChannelId id, Payloads& payloads,
                           uint64_t seed, int num_collectives) {
  std::mt19937_64 random(seed);
  for (int i = 0; i < num_collectives; ++i) {
    Check(communicator, id, &payloads, seed + static_cast<uint64_t>(i)).Random(random);
    if (testing::Test::HasFatalFailure()) return;
  }
}

void CheckTraffic(Communicator& communicator) {
  std::vector<std::byte> memory(kPayloadBytes);
  HostPayloads payloads(memory, communicator.rank());
  CheckTrafficOn(communicator, payloads, 1'000'000);
}

void CheckTrafficOn(Communicator& communicator, Payloads& payloads, uint64_t shard_bytes) {
  const uint64_t world = communicator.world_size();
  const tiering::StreamContext stream = payloads.stream();
  const std::span<std::byte> whole = payloads.Take(shard_bytes * world);
  const std::span<std::byte> shard = payloads.Take(shard_bytes);
  payloads.Write(whole, std::vector<std::byte>(whole.size()));
  Channel& channel = communicator.channel(ChannelId::kCommLane);
  const TrafficByCollective before = communicator.traffic();
  ASSERT_TRUE(channel.AllGather(stream, shard, whole).ok());
  ASSERT_TRUE(channel.ReduceScatter(stream, whole, shard, DType::kBf16).ok());
  const TrafficByCollective after = communicator.traffic();
  const auto moved = [&](Collective collective) {
    const auto i = static_cast<size_t>(collective);
    EXPECT_EQ(after[i].calls - before[i].calls, 1u);
    return std::pair(after[i].bytes_sent - before[i].bytes_sent,
                     after[i].bytes_received - before[i].bytes_received);
  };
  const uint64_t theory = (world - 1) * shard_bytes;
  // However many nodes there are, every shard reaches every other rank once. Who passes on what
  // depends on the rank, so only the sums over ranks are theory's.
  std::array<double, 2> sums = {static_cast<double>(moved(Collective::kAllGather).first),
                                static_cast<double>(moved(Collective::kReduceScatter).first)};
  EXPECT_EQ(moved(Collective::kAllGather).second, theory);
  ASSERT_TRUE(channel.AllReduceSum(sums).ok());
  EXPECT_EQ(sums[0], static_cast<double>(theory * world));
  // Nodes of more than two ranks send each other fp32 sums instead of what each rank has in bf16.
  std::vector<uint32_t> node(1, communicator.local_size()), nodes(world);
  ASSERT_TRUE(
      channel.AllGather(std::as_bytes(std::span(node)), std::as_writable_bytes(std::span(nodes)))
          .ok());
  if (communicator.num_nodes() > 1 && *std::max_element(nodes.begin(), nodes.end()) > 2) return;
  EXPECT_EQ(moved(Collective::kReduceScatter).first, theory);
  EXPECT_EQ(moved(Collective::kReduceScatter).second, theory);
  if (communicator.num_nodes() == 1) {
    EXPECT_EQ(after[0].bytes_sent_between_nodes, 0u);
  }
}

}  // namespace strata::engine
