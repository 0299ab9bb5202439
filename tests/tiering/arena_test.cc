#include "tiering/arena.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "aio/base/units.h"
#include "tests/tiering/temp_dir.h"
#include "tiering/internal/available_memory.h"

namespace strata::tiering {
namespace {

using testing::HasSubstr;

TEST(ArenaTest, IsExactlyTheBudgetRoundedDownToWholeSlots) {
  auto arena = Arena::Create("host", 1_MiB + 4_KiB + 17);
  ASSERT_TRUE(arena.ok()) << arena.status().ToString();
  EXPECT_EQ(arena->size_bytes(), 1_MiB + 4_KiB);
  EXPECT_EQ(arena->bytes().size(), 1_MiB + 4_KiB);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(arena->bytes().data()) % kSlotAlignmentBytes, 0u);
}

TEST(ArenaTest, ASlotIsThePartOfTheArenaAtItsOffset) {
  auto arena = Arena::Create("host", 64_KiB);
  ASSERT_TRUE(arena.ok());
  auto slot = arena->Slot(8_KiB, 5000);
  EXPECT_EQ(slot.data(), arena->bytes().data() + 8_KiB);
  EXPECT_EQ(slot.size(), 5000u);
  slot.back() = std::byte{7};
  EXPECT_EQ(arena->bytes()[8_KiB + 4999], std::byte{7});
}

// What tools that look at a process from outside tell the tiers apart by (tests/bench).
TEST(ArenaTest, SharedMemoryIsFoundByItsPurposeAmongTheMappingsOfTheProcess) {
  auto arena = Arena::Create("device (cpu)", 64_KiB, aio::Sharing::kShared);
  ASSERT_TRUE(arena.ok()) << arena.status().ToString();
  std::ifstream maps("/proc/self/maps");
  const std::string begin =
      fmt::format("{:x}-", reinterpret_cast<uintptr_t>(arena->bytes().data()));
  std::string line;
  while (std::getline(maps, line) && !line.starts_with(begin)) {
  }
  EXPECT_THAT(line, HasSubstr("/memfd:strata device (cpu)"));
}

TEST(ArenaDeathTest, ASlotBeyondTheBudgetOrUnalignedIsABug) {
  auto arena = Arena::Create("host", 64_KiB);
  ASSERT_TRUE(arena.ok());
  EXPECT_DEATH(arena->Slot(60_KiB, 4_KiB + 1), "length_bytes");
  EXPECT_DEATH(arena->Slot(68_KiB, 0), "offset_bytes");
  EXPECT_DEATH(arena->Slot(0, UINT64_MAX), "length_bytes");
  EXPECT_DEATH(arena->Slot(100, 1), "kSlotAlignmentBytes");
}

TEST(ArenaTest, ABudgetBeyondTheMachineIsRefusedNamingPurposeBudgetAndWhatIsFree) {
  auto arena = Arena::Create("device (cpu)", uint64_t{1} << 50);
  ASSERT_FALSE(arena.ok());
  EXPECT_EQ(arena.status().code(), Code::kResourceExhausted);
  EXPECT_THAT(arena.status().message(), HasSubstr("device (cpu) memory: budget 1024 TiB"));
  EXPECT_THAT(arena.status().message(), HasSubstr("available"));
  EXPECT_THAT(arena.status().message(), HasSubstr("lower the budget"));
}

TEST(ArenaTest, ABudgetWithoutASlotIsRefused) {
  auto arena = Arena::Create("host", 4095);
  ASSERT_FALSE(arena.ok());
  EXPECT_EQ(arena.status().code(), Code::kInvalidArgument);
}

class AvailableMemoryTest : public testing::Test {
 protected:
  void Write(const std::string& path, const std::string& text) {
    std::filesystem::path file = root_.path() + "/" + path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  uint64_t Available() { return AvailableMemoryBytes(root_.path() + "/"); }

  TempDir root_;
};

TEST_F(AvailableMemoryTest, IsWhatTheMachineHasWhereNoControlGroupLimits) {
  Write("proc/meminfo", "MemTotal: 9000 kB\nMemAvailable:    2048 kB\n");
  Write("proc/self/cgroup", "0::/\n");
  Write("sys/fs/cgroup/memory.max", "max\n");
  Write("sys/fs/cgroup/memory.current", "123\n");
  EXPECT_EQ(Available(), 2_MiB);
}

TEST_F(AvailableMemoryTest, IsWhatAControlGroupHasLeftWithItsFileCacheCountedAsFree) {
  Write("proc/meminfo", "MemAvailable: 2048 kB\n");
  Write("proc/self/cgroup", "0::/job\n");
  Write("sys/fs/cgroup/job/memory.max", "1000000\n");
  Write("sys/fs/cgroup/job/memory.current", "700000\n");
  Write("sys/fs/cgroup/job/memory.stat", "anon 1\ninactive_file 200000\n");
  EXPECT_EQ(Available(), 500000u);
}

TEST_F(AvailableMemoryTest, KnowsTheFirstVersionOfControlGroups) {
  Write("proc/meminfo", "MemAvailable: 2048 kB\n");
  Write("proc/self/cgroup", "3:cpu:/\n2:memory:/job\n");
  Write("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "1000000\n");
  Write("sys/fs/cgroup/memory/job/memory.usage_in_bytes", "1000001\n");
  EXPECT_EQ(Available(), 0u);
}

TEST_F(AvailableMemoryTest, DoesNotLimitWhereNothingCanBeRead) {
  EXPECT_EQ(Available(), UINT64_MAX);
}

}  // namespace
}  // namespace strata::tiering
