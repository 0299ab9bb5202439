// What a node runs for node 0: mpirun's daemon as mpirun 4.1 asks for it, and nothing else.
#include "tools/launch/node_daemon.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/or_die.h"

namespace strata::launch {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Words = std::vector<std::string>;

TEST(NodeDaemon, MpirunsCommandIsUnderstoodAndRunsTheDaemonOfThisNode) {
  EXPECT_THAT(
      OrDie(DaemonWords({" /usr/lib/other/bin/orted", "-mca", "ess", "\"env\"", "-mca",
                         "ess_base_jobid", "\"1529085952\"", "-mca", "orte_node_regex",
                         "\"vm,strata-node-[1:1]@0(2)\"", "--mca", "plm_rsh_agent",
                         "\"/opt/strata launch-daemon\"", "-mca", "pmix", "\"^s1,s2\""})),
      ElementsAre("orted", "-mca", "ess", "env", "-mca", "ess_base_jobid", "1529085952", "-mca",
                  "orte_node_regex", "vm,strata-node-[1:1]@0(2)", "-mca", "pmix", "^s1,s2"));
}

// Each was once somebody's way to run more than they were given.
TEST(NodeDaemon, EverythingElseIsRefused) {
  const std::vector<Words> refused = {
      {},
      {"sh", "-c", "id"},
      {"/bin/rm", "-rf", "/"},
      {"orted;", "id"},
      {"orted", "&&", "id"},
      {"orted", "-mca", "ess", "\"$(id)\""},
      {"orted", "-mca", "ess", "\"`id`\""},
      {"orted", "-mca", "ess", "env", "|", "sh"},
      {"orted", ">", "/etc/passwd"},
      {"PATH=/tmp/evil", "orted"},
      {"LD_PRELOAD=/tmp/x.so", "orted"},
      {"orted", "--prefix", "/tmp/evil"},
      {"orted", "-mca", "orte_launch_agent", "/tmp/evil"},
      {"orted", "-mca", "mca_base_component_path", "/tmp/evil"},
      {"orted", "-mca", "ess"},
      {"orted", "-mca", "ess", "\"env"},
      {"not-orted"},
      {"orted/../sh"},
  };
  for (const Words& words : refused) {
    Result<Words> result = DaemonWords(words);
    ASSERT_FALSE(result.ok()) << words.size();
    EXPECT_EQ(result.status().code(), Code::kPermissionDenied);
    EXPECT_THAT(result.status().message(), HasSubstr("refused to run"));
  }
}

}  // namespace
}  // namespace strata::launch
