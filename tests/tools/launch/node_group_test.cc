#include "tools/launch/node_group.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>

namespace strata::launch {
namespace {

using testing::AllOf;
using testing::HasSubstr;

NodeHello Node(uint32_t rank, const std::string& host) {
  return {.job_id = "",
          .node_rank = rank,
          .nnodes = 2,
          .num_slots = 2,
          .host = host,
          .boot_id = "boot of " + host,
          .version = "0.1.0",
          .program_hash = "p",
          .command = "strata train run.toml",
          .config_hash = "c",
          .num_cores = 8,
          .comm = "mpi"};
}

std::string With(const std::function<void(NodeHello&)>& change) {
  NodeHello other = Node(1, "node-b");
  change(other);
  return Disagreement(Node(0, "node-a"), other);
}

TEST(NodeGroup, NodesThatDifferOnlyInPlaceAndSizeAgree) {
  EXPECT_EQ(With([](NodeHello& node) { node.num_slots = 4, node.num_cores = 64; }), "");
}

TEST(NodeGroup, EveryDifferenceThatCannotRunOneJobIsNamedWithBothNodes) {
  const auto both = AllOf(HasSubstr("node-a"), HasSubstr("node-b"));
  EXPECT_THAT(With([](NodeHello& node) { node.version = "0.2.0"; }),
              AllOf(both, HasSubstr("0.1.0"), HasSubstr("0.2.0")));
  EXPECT_THAT(With([](NodeHello& node) { node.program_hash = "q"; }),
              AllOf(both, HasSubstr("different builds")));
  EXPECT_THAT(With([](NodeHello& node) { node.nnodes = 3; }),
              AllOf(both, HasSubstr("--nnodes 2"), HasSubstr("has 3")));
  EXPECT_THAT(With([](NodeHello& node) { node.command = "strata train other.toml"; }),
              AllOf(both, HasSubstr("other.toml")));
  EXPECT_THAT(With([](NodeHello& node) { node.config_hash = "d"; }),
              AllOf(both, HasSubstr("run.toml"), HasSubstr("not the same")));
  EXPECT_THAT(With([](NodeHello& node) { node.comm = "tcp"; }),
              AllOf(both, HasSubstr("through mpi on node-rank 0"), HasSubstr("--comm tcp")));
  EXPECT_THAT(With([](NodeHello& node) { node.node_rank = 5; }), HasSubstr("node-rank 5"));
}

TEST(NodeGroup, OneMachineTwiceIsNamed) {
  EXPECT_THAT(Disagreement(Node(0, "node-a"), Node(1, "node-a")),
              AllOf(HasSubstr("same machine"), HasSubstr("--nproc-per-node")));
  // Machines made from one image may have one name.
  EXPECT_EQ(With([](NodeHello& node) { node.host = "node-a"; }), "");
}

}  // namespace
}  // namespace strata::launch
