// What goes over the channels of a job. Small things are JSON; ranks' output is lines as they are.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "aio/base/status.h"
#include "tools/launch/process.h"

namespace strata::launch {

enum class Message : char {
  // Of a rank's agent.
  kAgentHere = 'A',  // before anything else: its rank, in digits
  kRankStarted = 'S',
  kOutLines = 'o',
  kErrLines = 'e',
  kRankEnded = 'E',
  // To a rank's agent.
  kStop = 's',     // SIGTERM to the rank
  kKill = 'k',     // SIGKILL to the rank
  kRelease = 'r',  // all ranks have ended: end, too
  // Of mpirun's relay, and on to the node.
  kRunDaemon = 'D',
  // Of the node, and on to the relay, if it was a daemon.
  kDaemonEnded = 'd',
  // Of a node's launcher.
  kNodeHello = 'H',
  kStopWanted = 'q',  // it got a signal
  // To a node's launcher.
  kNodeWelcome = 'W',
  kStartRanks = 'R',  // its agents, where no mpirun does
  kJobEnded = 'Z',
};

struct RankStarted {
  uint32_t rank = 0;
  std::string host;
  int64_t pid = 0;
  std::string binding;
  std::string log;
};

struct RankEnded {
  Ending ending;
  std::string error = {};    // why it could not be run
  bool was_stopped = false;  // as it was told to: nothing of its own went wrong
};

struct RunDaemon {
  uint32_t node_rank = 0;
  std::vector<std::string> words;
};

// What a node needs to know to start its ranks, with its own command. The token that agents show is
// made of the nonce and the secret that nodes share, and so is not sent.
struct StartRanks {
  std::string layout;
  std::string nonce;
  uint16_t comm_port = 0;
};

// A daemon, or the agents of a node.
struct DaemonEnded {
  uint32_t node_rank = 0;
  int exit_code = 0;
  std::string text;  // what it said
};

// Who a node's launcher is, and what it would run: all must agree.
struct NodeHello {
  std::string job_id;
  uint32_t node_rank = 0;
  uint32_t nnodes = 0;
  uint32_t num_slots = 0;
  std::string host;
  std::string boot_id;  // of its kernel: with the host's name, which machine it is
  std::string version;
  std::string program_hash;
  std::string command;
  std::string config_hash;
  uint32_t num_cores = 0;
  std::string comm;  // "mpi" or "tcp"
};

struct JobEnded {
  int exit_code = 0;
  std::string text;  // for people
};

std::string Encode(const RankStarted& message);
std::string Encode(const RankEnded& message);
std::string Encode(const RunDaemon& message);
std::string Encode(const StartRanks& message);
std::string Encode(const DaemonEnded& message);
std::string Encode(const NodeHello& message);
std::string Encode(const JobEnded& message);

// kDataLoss for text that is not such a message.
template <typename T>
Result<T> Decode(std::string_view text);

}  // namespace strata::launch
