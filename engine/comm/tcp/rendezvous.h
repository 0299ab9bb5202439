// How ranks that no launcher has introduced find each other: rank 0 listens where all were told,
// the others connect, and get a list of all. Then every two ranks connect.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "aio/base/descriptor.h"
#include "aio/base/status.h"

namespace strata::engine {

struct RendezvousOptions {
  uint32_t rank = 0;
  uint32_t world_size = 1;
  std::string host;     // MASTER_ADDR, where rank 0 is
  uint16_t port = 0;    // STRATA_MASTER_PORT
  std::string build;    // ranks of different builds do not understand each other
  std::string machine;  // the same for ranks that see each other's processes, and only for those
  std::chrono::milliseconds deadline = std::chrono::minutes(10);
};

// A connection to every other rank, non-blocking.
struct Introductions {
  std::vector<Descriptor> connections;          // by rank; none to this one
  std::vector<std::string> hosts;               // by rank
  std::vector<uint32_t> first_rank_of_machine;  // by rank
};

// Blocks until all ranks have come. kDeadlineExceeded names those that have not, on rank 0, and on
// the others where nobody answers; kFailedPrecondition where the port is in use or two processes
// say that they are one rank, kInvalidArgument where rank 0 is not on `host`.
Result<Introductions> MeetOverTcp(const RendezvousOptions& options);

// Of this machine, as far as processes here can see each other.
std::string NameOfThisMachine();

}  // namespace strata::engine
