#include "tests/engine/comm/collectives_suite.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <random>
#include <thread>
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

// Where payloads of one channel are: half in shared memory, half not, at odd places.
class Places {
 public:
  Places(std::span<std::byte> shared, uint64_t seed) : shared_(shared), random_(seed) {
    private_.resize(shared.size());
  }
  void Reset() { used_ = 0; }
  std::span<std::byte> Take(uint64_t size_bytes) {
    const uint64_t offset = used_ + random_() % 3 * 4 + (random_() % 4 == 0 ? 1 : 0);
    used_ = offset + size_bytes;
    STRATA_CHECK(used_ <= shared_.size());
    return (random_() % 2 == 0 ? shared_ : std::span(private_)).subspan(offset, size_bytes);
  }
  bool Coin() { return random_() % 2 == 0; }

 private:
  std::span<std::byte> shared_;
  std::vector<std::byte> private_;
  std::mt19937_64 random_;
  uint64_t used_ = 0;
};

constexpr uint64_t kPlaceBytes = 20_MiB;

// One collective against the reference; `seed` is the same on all ranks.
class Check {
 public:
  Check(Communicator& communicator, ChannelId id, Places* places, uint64_t seed)
      : channel_(communicator.channel(id)),
        rank_(communicator.rank()),
        world_(communicator.world_size()),
        places_(*places),
        seed_(seed) {
    places_.Reset();
  }

  void AllGather(uint64_t shard_bytes) {
    const std::span<std::byte> whole = places_.Take(shard_bytes * world_);
    std::span<std::byte> shard = whole.subspan(rank_ * shard_bytes, shard_bytes);
    if (places_.Coin()) shard = places_.Take(shard_bytes);
    std::fill(whole.begin(), whole.end(), std::byte{0xee});
    for (uint64_t i = 0; i < shard_bytes; ++i) shard[i] = ByteOf(rank_, i);
    Ok(channel_.AllGather(shard, whole));
    for (uint32_t rank = 0; rank < world_; ++rank) {
      for (uint64_t i = 0; i < shard_bytes; ++i)
        if (whole[rank * shard_bytes + i] != ByteOf(rank, i)) return Wrong("all-gather", rank, i);
    }
  }

  void ReduceScatter(uint64_t shard_elements, DType dtype) {
    const uint64_t shard_bytes = shard_elements * SizeOf(dtype);
    const std::span<std::byte> whole = places_.Take(shard_bytes * world_);
    std::span<std::byte> shard = whole.subspan(rank_ * shard_bytes, shard_bytes);
    if (places_.Coin()) shard = places_.Take(shard_bytes);
    Contribute(whole, shard_elements * world_, dtype);
    Ok(channel_.ReduceScatter(whole, shard, dtype));
    ExpectSums("reduce-scatter", shard, rank_ * shard_elements, shard_elements, dtype);
  }

  void AllReduce(uint64_t num_elements, DType dtype) {
    const std::span<std::byte> numbers = places_.Take(num_elements * SizeOf(dtype));
    Contribute(numbers, num_elements, dtype);
    Ok(channel_.AllReduce(numbers, dtype));
    ExpectSums("all-reduce", numbers, 0, num_elements, dtype);
  }

  void Broadcast(uint64_t size_bytes, uint32_t root) {
    const std::span<std::byte> bytes = places_.Take(size_bytes);
    for (uint64_t i = 0; i < size_bytes; ++i) bytes[i] = ByteOf(rank_, i);
    Ok(channel_.Broadcast(bytes, root));
    for (uint64_t i = 0; i < size_bytes; ++i)
      if (bytes[i] != ByteOf(root, i)) return Wrong("broadcast", root, i);
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
  void Contribute(std::span<std::byte> to, uint64_t num_elements, DType dtype) {
    for (uint64_t i = 0; i < num_elements; ++i) Store(to.data(), i, Number(seed_, rank_, i), dtype);
  }
  void ExpectSums(const char* what, std::span<const std::byte> found, uint64_t first,
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
  Places& places_;
  const uint64_t seed_;
};

}  // namespace

void CheckEveryCollective(Communicator& communicator) {
  aio::HugeMemory memory = OrDie(aio::HugeMemory::Map(kPlaceBytes, aio::Sharing::kShared));
  const Status shared = communicator.ShareMemory(memory.bytes(), memory.fd());
  ASSERT_TRUE(shared.ok()) << shared.ToString();
  Places places(memory.bytes(), communicator.rank());
  uint64_t seed = 0;
  const auto check = [&] { return Check(communicator, ChannelId::kCommLane, &places, ++seed); };
  const uint32_t world = communicator.world_size();
  // Large ones are of several rows, and not a multiple of anything.
  for (const uint64_t size : {0, 1, 3, 64, 1000, 65536, 300'001}) {
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
  communicator.UnshareMemory(memory.bytes());
}

void CheckRandomSequences(Communicator& communicator, uint64_t seed, int num_collectives) {
  aio::HugeMemory memory = OrDie(aio::HugeMemory::Map(2 * kPlaceBytes, aio::Sharing::kShared));
  const Status shared = communicator.ShareMemory(memory.bytes(), memory.fd());
  ASSERT_TRUE(shared.ok()) << shared.ToString();
  const auto run = [&](ChannelId id, std::span<std::byte> where, uint64_t own_seed) {
    std::mt19937_64 random(own_seed);
    Places places(where, own_seed + 1000 * communicator.rank());
    for (int i = 0; i < num_collectives; ++i) {
      Check(communicator, id, &places, own_seed + static_cast<uint64_t>(i)).Random(random);
      if (testing::Test::HasFatalFailure()) return;
    }
  };
  std::jthread other(
      [&] { run(ChannelId::kCpuLane, memory.bytes().last(kPlaceBytes), seed * 7919 + 1); });
  run(ChannelId::kCommLane, memory.bytes().first(kPlaceBytes), seed * 7919);
  other.join();
  const Status left = communicator.channel(ChannelId::kControl).Barrier();
  EXPECT_TRUE(left.ok()) << left.ToString();
  communicator.UnshareMemory(memory.bytes());
}

void CheckTraffic(Communicator& communicator) {
  constexpr uint64_t kShardBytes = 1'000'000;
  const uint64_t world = communicator.world_size();
  std::vector<std::byte> whole(kShardBytes * world);
  std::vector<std::byte> shard(kShardBytes);
  Channel& channel = communicator.channel(ChannelId::kCommLane);
  const TrafficByCollective before = communicator.traffic();
  ASSERT_TRUE(channel.AllGather(shard, whole).ok());
  ASSERT_TRUE(channel.ReduceScatter(whole, shard, DType::kBf16).ok());
  const TrafficByCollective after = communicator.traffic();
  const auto moved = [&](Collective collective) {
    const auto i = static_cast<size_t>(collective);
    EXPECT_EQ(after[i].calls - before[i].calls, 1u);
    return std::pair(after[i].bytes_sent - before[i].bytes_sent,
                     after[i].bytes_received - before[i].bytes_received);
  };
  const uint64_t theory = (world - 1) * kShardBytes;
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
