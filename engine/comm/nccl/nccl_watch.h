// Looks after the collectives that are on a rank's GPU, which nobody waits for: notices when NCCL
// or a rank fails, or a rank does not come, tells all ranks, and then ends what is on the GPU.
#pragma once

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "engine/comm/internal/world.h"
#include "engine/comm/nccl/flights.h"
#include "engine/comm/nccl/nccl_comm.h"

namespace strata::engine {

class NcclWatch {
 public:
  // All outlive it. kResourceExhausted when its thread cannot be started.
  static Result<std::unique_ptr<NcclWatch>> Start(World* world, NcclComm* comm, Flights* flights,
                                                  int device);
  ~NcclWatch();
  NcclWatch(const NcclWatch&) = delete;
  NcclWatch& operator=(const NcclWatch&) = delete;

  // "comm lane: all-gather 17 (1.5 MiB): rank 0".
  static std::string Doing(const World& world, const Announcement& announcement);

 private:
  using Clock = std::chrono::steady_clock;
  // Ranks that have not come to a collective, and how long nothing of the first has changed.
  struct Patience {
    uint64_t number = 0;  // of the collective
    std::optional<uint32_t> rank = {};
    uint64_t progress = 0;
    Clock::time_point next_look = {};
    Clock::time_point last_look = {};
    Clock::duration waited = {};
  };

  NcclWatch(World* world, NcclComm* comm, Flights* flights)
      : world_(*world), comm_(*comm), flights_(*flights) {}
  void Work(int device);
  // Fails when the collectives have, or as a failure that was told.
  Status Look();
  Status CheckNccl();
  Status CheckPeers(const Announcement& announcement);
  Status CheckPatience(const Announcement& announcement);
  Status Late(const Announcement& announcement, const Patience& patience);
  std::string DoingNow() const;

  World& world_;
  NcclComm& comm_;
  Flights& flights_;
  Patience patience_;

  std::mutex mutex_;
  std::condition_variable quits_;
  bool quit_ = false;
  std::jthread thread_;
};

}  // namespace strata::engine
