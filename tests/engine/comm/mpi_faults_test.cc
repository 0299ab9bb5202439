// Ranks that end, stop or go wrong in the middle of collectives of others: nobody hangs, and
// everybody says who it was. Over MPI where the program was built with STRATA_MPIEXEC, else over
// TCP.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>

#include "tests/engine/comm/free_port.h"

namespace strata::engine {
namespace {

using testing::AnyOf;
using testing::HasSubstr;

constexpr int kNumRanks = 3;
constexpr int kVictim = 1;

struct Fault {
  std::string name;
  int at = 20;  // so many collectives have been
  int ranks_per_pretended_node = 0;
};

std::ostream& operator<<(std::ostream& out, const Fault& fault) { return out << fault.name; }

std::string FaultName(const testing::TestParamInfo<Fault>& info) {
  return fmt::format("{}_at_{}_nodes_of_{}", info.param.name, info.param.at,
                     info.param.ranks_per_pretended_node);
}

#ifdef STRATA_MPIEXEC
constexpr const char* kPlugin = STRATA_MPI_PLUGIN;

// mpirun leaves the other ranks alone, so that they can find out on their own. A rank that was not
// waited for is reported to it when it ends.
std::string CommandOf(const std::string& rank) {
  return fmt::format("{} --mca orte_enable_recovery 1 -n {} {}", STRATA_MPIEXEC, kNumRanks, rank);
}
#else
constexpr const char* kPlugin = "none";

std::string CommandOf(const std::string& rank) {
  const uint16_t port = FreePort();
  std::string command;
  for (int i = 0; i < kNumRanks; ++i) {
    command +=
        fmt::format("RANK={} WORLD_SIZE={} MASTER_ADDR=127.0.0.1 STRATA_MASTER_PORT={} {} & ", i,
                    kNumRanks, port, rank);
  }
  return command + "wait";
}
#endif

// Lines of what the job says, while it runs.
class Job {
 public:
  explicit Job(const Fault& fault) {
    const std::string rank =
        fmt::format("{} {} {} {} {} {}", STRATA_VICTIM, kPlugin, fault.ranks_per_pretended_node,
                    fault.name, kVictim, fault.at);
    pipe_ = popen(fmt::format("({}) 2>/dev/null", CommandOf(rank)).c_str(), "r");
  }
  ~Job() {
    if (pipe_ != nullptr) pclose(pipe_);
  }
  bool Next(std::string* line) {
    char text[4096];
    if (pipe_ == nullptr || fgets(text, sizeof(text), pipe_) == nullptr) return false;
    *line = text;
    return true;
  }

 private:
  FILE* pipe_ = nullptr;
};

class MpiFaultsTest : public testing::TestWithParam<Fault> {
 protected:
  // What each rank said of its comm lane's end. The victim is not waited for when it is stopped.
  std::map<int, std::string> Run() {
    Job job(GetParam());
    std::map<int, std::string> ends;
    int victims_pid = 0;
    std::string line;
    while (job.Next(&line)) {
      int rank = 0;
      int pid = 0;
      int begin = 0;
      if (std::sscanf(line.c_str(), "pid of rank %d: %d", &rank, &pid) == 2 && rank == kVictim)
        victims_pid = pid;
      if (std::sscanf(line.c_str(), "rank %d comm lane ended: %n", &rank, &begin) == 1)
        ends[rank] = line.substr(static_cast<size_t>(begin));
      const bool is_waited_for = GetParam().name != "stop" || ends.size() < kNumRanks - 1;
      if (!is_waited_for && victims_pid > 0) kill(std::exchange(victims_pid, 0), SIGKILL);
    }
    return ends;
  }
};

// Two ranks of three on a node, or one on each, so that the message path is in it.
INSTANTIATE_TEST_SUITE_P(Faults, MpiFaultsTest,
                         testing::Values(Fault{"exit"}, Fault{"exit", 20, 1}, Fault{"kill"},
                                         Fault{"kill", 0}, Fault{"kill", 137, 2},
                                         Fault{"kill", 61, 1}, Fault{"stop"}, Fault{"stop", 20, 1},
                                         Fault{"stop", 20, 2}, Fault{"abort"},
                                         Fault{"abort", 20, 1}, Fault{"mismatch"},
                                         Fault{"mismatch", 20, 1}),
                         FaultName);

TEST_P(MpiFaultsTest, EveryOtherRankEndsWithTheCauseAndTheCulprit) {
  const std::map<int, std::string> ends = Run();
  for (int rank = 0; rank < kNumRanks; ++rank) {
    if (rank == kVictim) continue;
    ASSERT_TRUE(ends.contains(rank)) << "rank " << rank << " said nothing";
    const std::string& end = ends.at(rank);
    EXPECT_THAT(end,
                AnyOf(HasSubstr("rank 1 (pid"), HasSubstr("rank 1 (node"), HasSubstr("rank 1 (on "),
                      HasSubstr("rank 1 aborts"), HasSubstr("rank 1 calls")));
    if (GetParam().name == "abort") {
      EXPECT_THAT(end, HasSubstr("the watchdog has seen enough"));
    } else {
      EXPECT_THAT(end, AnyOf(HasSubstr("comm lane: "), HasSubstr("cpu lane: "),
                             HasSubstr(") has ended: ")));
    }
    if (GetParam().name == "mismatch") {
      EXPECT_THAT(end, HasSubstr("same configuration"));
    }
  }
}

}  // namespace
}  // namespace strata::engine

// For mpirun as root, with more ranks than cores, which it would bind.
int main(int argc, char** argv) {
  testing::InitGoogleMock(&argc, argv);
  setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
  setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
  setenv("OMPI_MCA_rmaps_base_oversubscribe", "1", 1);
  setenv("OMPI_MCA_hwloc_base_binding_policy", "none", 1);
  setenv("ASAN_OPTIONS", "exitcode=66:detect_leaks=0", 1);  // Open MPI's own
  return RUN_ALL_TESTS();
}
