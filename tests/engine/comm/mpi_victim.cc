// A rank of a job in which one meets its end in the middle of a collective; for mpi_faults_test.
//
//   mpirun -n N engine_comm_mpi_victim PLUGIN RANKS_PER_PRETENDED_NODE FAULT RANK AT
//
// Over TCP where RANK, WORLD_SIZE and MASTER_ADDR say so.
//
// Prints "pid of rank R: P" at the start, and what the collective's failure was, or how it ended.
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "aio/base/units.h"
#include "engine/comm/communicator.h"
#include "tests/or_die.h"

namespace strata::engine {
namespace {

constexpr int kLast = 100'000;  // far more than ever happen

void Say(const std::string& text) {
  fmt::print("{}\n", text);
  std::fflush(stdout);
}

void MeetTheEnd(const std::string& fault, Communicator& communicator) {
  if (fault == "exit") _exit(7);
  if (fault == "kill") raise(SIGKILL);
  if (fault == "stop") raise(SIGSTOP);
  if (fault == "abort") communicator.Abort(Internal("the watchdog has seen enough"));
}

// Collectives without end on one channel; returns why they ended.
Status Run(Communicator& communicator, ChannelId id, const std::string& fault, uint32_t victim,
           int fault_at) {
  std::vector<float> numbers(100'000, 1.0f);
  for (int i = 0; i < kLast; ++i) {
    const bool is_now =
        id == ChannelId::kCommLane && i == fault_at && communicator.rank() == victim;
    // While the others are in the middle of it.
    std::jthread end;
    if (is_now) end = std::jthread([&] { MeetTheEnd(fault, communicator); });
    if (is_now && fault == "mismatch") numbers.resize(numbers.size() - 1);
    STRATA_RETURN_IF_ERROR(communicator.channel(id).AllReduce(
        std::as_writable_bytes(std::span(numbers)), DType::kF32));
  }
  return OkStatus();
}

int Main(char** words) {
  const RankEnvironment environment = OrDie(ReadRankEnvironment());
  CommunicatorOptions options;
  options.plugin = words[0];
  options.ranks_per_pretended_node = static_cast<uint32_t>(std::atoi(words[1]));
  options.deadline = std::chrono::seconds(2);
  const std::unique_ptr<Communicator> communicator = OrDie(MakeCommunicator(environment, options));
  Say(fmt::format("pid of rank {}: {}", communicator->rank(), getpid()));
  const auto victim = static_cast<uint32_t>(std::atoi(words[3]));
  Status other;
  std::jthread cpu_lane(
      [&] { other = Run(*communicator, ChannelId::kCpuLane, words[2], victim, -1); });
  const Status status =
      Run(*communicator, ChannelId::kCommLane, words[2], victim, std::atoi(words[4]));
  cpu_lane.join();
  Say(fmt::format("rank {} comm lane ended: {}", communicator->rank(), status.ToString()));
  Say(fmt::format("rank {} cpu lane ended: {}", communicator->rank(), other.ToString()));
  return status.ok() ? 0 : 3;
}

}  // namespace
}  // namespace strata::engine

int main(int argc, char** argv) { return argc == 6 ? strata::engine::Main(argv + 1) : 2; }
