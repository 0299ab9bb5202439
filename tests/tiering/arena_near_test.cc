#include "tiering/arena_near.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "aio/base/units.h"
#include "tests/or_die.h"

namespace strata::tiering {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// A machine of two nodes that answers what a test says. Memory that is taken while one is preferred
// is on that one; of what is taken otherwise, on node 0.
class ArenaNearTest : public testing::Test {
 protected:
  NumaMemory Machine() {
    return {.num_nodes = 2,
            .prefer =
                [this](uint32_t node, const std::function<void()>& work) {
                  asked_.push_back(node);
                  if (!permission_.ok()) return permission_;
                  on_node_ = node;
                  work();
                  return OkStatus();
                },
            .node_of = [this](std::span<const std::byte> memory) -> Result<uint32_t> {
              if (first_byte_ == nullptr) first_byte_ = memory.data();
              const auto offset = static_cast<uint64_t>(memory.data() - first_byte_);
              return offset < full_at_ ? on_node_ : 0;
            }};
  }

  Status permission_;
  uint64_t full_at_ = UINT64_MAX;  // from which byte on node 1 had no more
  uint32_t on_node_ = 0;
  std::vector<uint32_t> asked_;
  const std::byte* first_byte_ = nullptr;
};

TEST_F(ArenaNearTest, TakesMemoryOfTheDevicesNode) {
  const ArenaNear near = OrDie(CreateArenaNear("host", 1_MiB, 1, Machine()));
  EXPECT_EQ(near.arena.size_bytes(), 1_MiB);
  EXPECT_THAT(asked_, ElementsAre(1));
  EXPECT_EQ(on_node_, 1u);
  EXPECT_EQ(near.where, "on NUMA node 1, the device's");
  EXPECT_FALSE(near.is_elsewhere);
}

TEST_F(ArenaNearTest, WhereThereIsNoChoiceNothingIsAskedOrSaid) {
  const ArenaNear unknown = OrDie(CreateArenaNear("host", 1_MiB, std::nullopt, Machine()));
  NumaMemory one = Machine();
  one.num_nodes = 1;
  const ArenaNear only = OrDie(CreateArenaNear("host", 1_MiB, 0, one));
  EXPECT_THAT(asked_, IsEmpty());
  EXPECT_EQ(unknown.where + only.where, "");
  EXPECT_FALSE(unknown.is_elsewhere || only.is_elsewhere);
}

TEST_F(ArenaNearTest, WhereTheKernelForbidsItMemoryIsTakenAnywhereAndThatIsSaid) {
  permission_ = Unavailable("taking memory of NUMA node 1: Operation not permitted");
  const ArenaNear near = OrDie(CreateArenaNear("host", 1_MiB, 1, Machine()));
  EXPECT_EQ(near.arena.size_bytes(), 1_MiB);
  EXPECT_TRUE(near.is_elsewhere);
  EXPECT_THAT(near.where, AllOf(HasSubstr("any NUMA node"), HasSubstr("not permitted")));
}

TEST_F(ArenaNearTest, MemoryThatTheNodeDidNotHaveIsSaid) {
  full_at_ = 768_KiB;  // the last 4 of 16 looks
  const ArenaNear near = OrDie(CreateArenaNear("host", 1_MiB, 1, Machine()));
  EXPECT_TRUE(near.is_elsewhere);
  EXPECT_THAT(near.where, AllOf(HasSubstr("4 of 16"), HasSubstr("than the device's, 1")));
}

TEST_F(ArenaNearTest, WhatTheMachineHasNotIsAnErrorOnAnyNode) {
  EXPECT_EQ(CreateArenaNear("host", 1ULL << 46, 1, Machine()).status().code(),
            Code::kResourceExhausted);
}

// On this machine, whatever it is.
TEST(NumaMemoryTest, ThisMachineHasANodeForEveryPageItTells) {
  const NumaMemory numa = OrDie(NumaMemoryOfThisMachine());
  EXPECT_GE(numa.num_nodes, 1u);
  const ArenaNear near = OrDie(CreateArenaNear("host", 1_MiB, 0, numa));
  EXPECT_EQ(near.arena.size_bytes(), 1_MiB);
  if (numa.num_nodes == 1) {
    EXPECT_EQ(near.where, "");
  }
}

}  // namespace
}  // namespace strata::tiering
