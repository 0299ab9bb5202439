// Notices when a process of this machine ends, without waiting for it to be missed.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace strata::engine {

// Thread-safe once created. Where the kernel cannot watch processes (before 5.3) it notices
// nothing.
class PeerWatch {
 public:
  // By local rank. Our own process is not watched.
  explicit PeerWatch(std::vector<int64_t> processes);
  ~PeerWatch();
  PeerWatch(const PeerWatch&) = delete;
  PeerWatch& operator=(const PeerWatch&) = delete;

  std::optional<uint32_t> FirstEnded() const;
  int64_t process(uint32_t local_rank) const { return processes_[local_rank]; }
  bool IsStopped(uint32_t local_rank) const;
  // "stopped by a signal", "sleeping", ... or "gone".
  std::string StateOf(uint32_t local_rank) const;

 private:
  std::vector<int64_t> processes_;
  std::vector<int> fds_;  // -1: not watched
};

}  // namespace strata::engine
