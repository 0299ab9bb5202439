#include "aio/io_buffer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <set>
#include <thread>
#include <vector>

#include "aio/base/units.h"
#include "tests/aio/process.h"
#include "tests/aio/scratch.h"

namespace strata::aio {
namespace {

TEST(HugeMemoryTest, IsAlignedZeroedAndRoundedUpToPages) {
  HugeMemory memory = OrDie(HugeMemory::Map(3_MiB + 1));
  EXPECT_EQ(memory.bytes().size(), 3_MiB + 4_KiB);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(memory.bytes().data()) % 2_MiB, 0u);
  for (std::byte byte : memory.bytes()) ASSERT_EQ(byte, std::byte{0});
}

// Budgets are promises about resident memory, so what is mapped counts from the start and no more.
TEST(HugeMemoryTest, CostsWhatWasAskedForFromTheStartAndNothingAfterwards) {
  constexpr int64_t kSize = 33 << 20;
  constexpr int64_t kSlack = 1 << 20;  // the rest of the process, which may give some back, too
  int64_t resident_before = ResidentBytes(), mapped_before = MappedBytes();
  {
    HugeMemory memory = OrDie(HugeMemory::Map(kSize));
    EXPECT_GE(ResidentBytes() - resident_before, kSize - kSlack);
    EXPECT_LE(ResidentBytes() - resident_before, kSize + kSlack);
    EXPECT_LE(MappedBytes() - mapped_before, kSize + kSlack);
  }
  EXPECT_LE(ResidentBytes() - resident_before, kSlack);
  EXPECT_LE(MappedBytes() - mapped_before, kSlack);
}

TEST(HugeMemoryTest, MoreThanTheMachineHasIsRefusedWithBothFigures) {
  Status status = HugeMemory::Map(1ULL << 46).status();
  EXPECT_EQ(status.code(), Code::kResourceExhausted);
  EXPECT_THAT(status.message(), testing::HasSubstr("allocate 64 TiB (70368744177664 bytes)"));
  EXPECT_THAT(status.message(), testing::ContainsRegex("memory, [0-9.]+ [KMGT]iB available"));
}

TEST(HugeMemoryTest, NothingIsAFineSize) { EXPECT_TRUE(OrDie(HugeMemory::Map(0)).bytes().empty()); }

TEST(HugeMemoryTest, SharedMemoryIsSeenByAnotherProcessThatMapsIt) {
  HugeMemory memory = OrDie(HugeMemory::Map(3_MiB, Sharing::kShared));
  EXPECT_EQ(reinterpret_cast<uintptr_t>(memory.bytes().data()) % 2_MiB, 0u);
  ASSERT_GE(memory.fd(), 0);
  const pid_t child = fork();
  if (child == 0) {
    void* view = mmap(nullptr, 3_MiB, PROT_READ | PROT_WRITE, MAP_SHARED, memory.fd(), 0);
    if (view == MAP_FAILED) _exit(1);
    static_cast<std::byte*>(view)[3_MiB - 1] = std::byte{7};
    _exit(0);
  }
  int exit_status = -1;
  ASSERT_EQ(waitpid(child, &exit_status, 0), child);
  EXPECT_EQ(exit_status, 0);
  EXPECT_EQ(memory.bytes()[3_MiB - 1], std::byte{7});
  HugeMemory moved = std::move(memory);
  EXPECT_EQ(memory.fd(), -1);
  EXPECT_GE(moved.fd(), 0);
  EXPECT_EQ(OrDie(HugeMemory::Map(4_KiB)).fd(), -1);
}

TEST(HugeMemoryTest, MovingHandsTheMappingOver) {
  HugeMemory one = OrDie(HugeMemory::Map(4_KiB));
  std::byte* address = one.bytes().data();
  HugeMemory two = OrDie(HugeMemory::Map(8_KiB));
  two = std::move(one);
  EXPECT_EQ(two.bytes().data(), address);
  two.bytes()[0] = std::byte{1};
}

class BufferPoolTest : public testing::Test {
 protected:
  HugeMemory memory_ = OrDie(HugeMemory::Map(70_KiB));
  BufferPool pool_{memory_.bytes(), 16_KiB};
};

TEST_F(BufferPoolTest, BuffersAreAlignedAndDisjoint) {
  std::vector<IoBuffer> leases;
  std::set<std::byte*> starts;
  for (int i = 0; i < 4; ++i) {
    leases.push_back(OrDie(pool_.Lease()));
    EXPECT_EQ(leases.back().size_bytes(), 16_KiB);
    std::byte* start = leases.back().bytes().data();
    EXPECT_EQ(static_cast<uint64_t>(start - memory_.bytes().data()) % 16_KiB, 0u);
    EXPECT_TRUE(starts.insert(start).second);
  }
  EXPECT_EQ(pool_.num_free(), 0u);
}

TEST_F(BufferPoolTest, AnEmptyPoolSaysSoInsteadOfBlocking) {
  std::vector<IoBuffer> leases;
  for (int i = 0; i < 4; ++i) leases.push_back(OrDie(pool_.Lease()));
  Status status = pool_.Lease().status();
  EXPECT_EQ(status.code(), Code::kResourceExhausted);
  EXPECT_EQ(status.message(), "all 4 I/O buffers of 16384 bytes are in use");
  leases.pop_back();
  EXPECT_TRUE(pool_.Lease().ok());
}

TEST_F(BufferPoolTest, BuffersGoHomeExactlyOnce) {
  {
    IoBuffer one = OrDie(pool_.Lease());
    IoBuffer two = OrDie(pool_.Lease());
    two = std::move(one);
    IoBuffer three(std::move(two));
    IoBuffer empty;
    empty = std::move(three);
    EXPECT_EQ(empty.size_bytes(), 16_KiB);
  }
  EXPECT_EQ(pool_.num_free(), 4u);
}

TEST_F(BufferPoolTest, ThreadsNeverShareABuffer) {
  std::vector<std::jthread> threads;
  for (int id = 0; id < 4; ++id) {
    threads.emplace_back([this, id] {
      for (int i = 0; i < 1000; ++i) {
        IoBuffer buffer = OrDie(pool_.Lease());
        buffer.bytes()[0] = static_cast<std::byte>(id);  // a race if anybody else holds it
        EXPECT_EQ(buffer.bytes()[0], static_cast<std::byte>(id));
      }
    });
  }
  threads.clear();
  EXPECT_EQ(pool_.num_free(), 4u);
}

TEST(BufferPoolDeathTest, APoolThatEndsBeforeItsLeasesIsTheCallersMistake) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  HugeMemory memory = OrDie(HugeMemory::Map(16_KiB));
  EXPECT_DEATH(
      {
        auto pool = std::make_unique<BufferPool>(memory.bytes(), 4_KiB);
        IoBuffer lease = OrDie(pool->Lease());
        pool.reset();
      },
      "check failed");
}

}  // namespace
}  // namespace strata::aio
