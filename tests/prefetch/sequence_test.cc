#include "prefetch/internal/sequence.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace strata::prefetch::internal {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class SequenceTest : public ::testing::Test {
 protected:
  NodeIndex Add(Lane lane, std::vector<NodeIndex> deps) {
    return sequence_.Add({.lane = lane}, std::move(deps));
  }
  const std::vector<NodeIndex>& Deps(NodeIndex node) { return sequence_.nodes()[node].deps; }

  Sequence sequence_;
};

TEST_F(SequenceTest, DependenciesAreSortedAndUnique) {
  for (int i = 0; i < 3; ++i) Add(Lane::kNvmeRead, {});
  EXPECT_THAT(Deps(Add(Lane::kH2d, {2, 0, 2, 1})), ElementsAre(0, 1, 2));
}

TEST_F(SequenceTest, WhatASerialLanesOrderSaysIsLeftOut) {
  NodeIndex first = Add(Lane::kCompute, {});
  EXPECT_THAT(Deps(Add(Lane::kCompute, {first})), IsEmpty());
}

TEST_F(SequenceTest, OnAnNvmeLaneTheOrderOfStartsIsNotEnough) {
  NodeIndex first = Add(Lane::kNvmeRead, {});
  EXPECT_THAT(Deps(Add(Lane::kNvmeRead, {first})), ElementsAre(first));
}

TEST_F(SequenceTest, WhatAnotherDependencyImpliesIsLeftOut) {
  NodeIndex read = Add(Lane::kNvmeRead, {});
  NodeIndex copy = Add(Lane::kH2d, {read});
  NodeIndex later_copy = Add(Lane::kH2d, {});
  NodeIndex run = Add(Lane::kCompute, {later_copy});
  EXPECT_THAT(Deps(Add(Lane::kCpu, {copy, later_copy, run})), ElementsAre(run));
  EXPECT_THAT(Deps(Add(Lane::kComm, {read, copy})), ElementsAre(copy));
}

}  // namespace
}  // namespace strata::prefetch::internal
