#include "engine/comm/internal/peer_watch.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <utility>

#include "aio/base/check.h"
#include "aio/base/units.h"
#include "aio/file.h"

namespace strata::engine {
namespace {

constexpr long kPidfdOpen = 434;  // older headers lack the name

}  // namespace

PeerWatch::PeerWatch(std::vector<int64_t> processes) : processes_(std::move(processes)) {
  for (const int64_t process : processes_) {
    const bool is_own = process == getpid();
    fds_.push_back(is_own ? -1 : static_cast<int>(syscall(kPidfdOpen, process, 0)));
  }
}

PeerWatch::~PeerWatch() {
  for (const int fd : fds_)
    if (fd >= 0) STRATA_CHECK(close(fd) == 0);
}

std::optional<uint32_t> PeerWatch::FirstEnded() const {
  for (uint32_t local = 0; local < fds_.size(); ++local) {
    pollfd watched{.fd = fds_[local], .events = POLLIN, .revents = 0};
    if (fds_[local] >= 0 && poll(&watched, 1, 0) == 1) return local;
  }
  return std::nullopt;
}

bool PeerWatch::IsStopped(uint32_t local_rank) const {
  return StateOf(local_rank).starts_with("stopped");
}

std::string PeerWatch::StateOf(uint32_t local_rank) const {
  const Result<std::string> text =
      aio::ReadSmallFile(fmt::format("/proc/{}/stat", processes_[local_rank]), 4_KiB);
  // "4711 (name) T ...", and a name may hold anything.
  const size_t bracket = text.ok() ? text->rfind(')') : std::string::npos;
  if (bracket == std::string::npos || bracket + 2 >= text->size()) return "gone";
  switch ((*text)[bracket + 2]) {
    case 'T':
      return "stopped by a signal";
    case 't':
      return "stopped by a debugger";
    case 'Z':
    case 'X':
      return "dead";
    case 'D':
      return "waiting for a device";
    case 'R':
      return "running";
    default:
      return "sleeping";
  }
}

}  // namespace strata::engine
