// What this process may have, from /proc/self.
#include <fmt/format.h>

#include "aio/base/units.h"
#include "aio/internal/attribute.h"
#include "aio/internal/preflight/findings.h"
#include "aio/internal/preflight/process.h"

namespace strata::aio {
namespace {

constexpr std::string_view kLockedMemoryHelp =
    "io_uring and CUDA pin the memory that they move to and from; what may not be pinned works, "
    "and "
    "costs more CPU. To make it last: '* - memlock unlimited' in /etc/security/limits.conf, "
    "LimitMEMLOCK=infinity in a systemd unit, --ulimit memlock=-1 for docker.";

}  // namespace

Finding LockedMemoryFinding(const PreflightRoots& roots) {
  const Topic topic = {"locked_memory", "memory that may be locked"};
  std::optional<Limit> limit = ReadLimit(roots, "Max locked memory");
  if (!limit) return topic.Unknown();
  if (!limit->soft) return topic.Fine("unlimited");
  std::string value = FormatBytes(*limit->soft);
  if (HasCapability(roots, Capability::kIpcLock))
    return topic.Fine("unlimited (CAP_IPC_LOCK; without it " + value + ")");
  return topic.Note(value, std::string(kLockedMemoryHelp), "ulimit -l unlimited");
}

Finding FileSizeFinding(const PreflightRoots& roots) {
  const Topic topic = {"file_size_limit", "size of a file"};
  std::optional<Limit> limit = ReadLimit(roots, "Max file size");
  if (!limit) return topic.Unknown();
  if (!limit->soft) return topic.Fine("unlimited");
  return topic.Problem(FormatBytes(*limit->soft),
                       "Files of this process cannot grow past that, and the kernel ends a process "
                       "that tries.",
                       "ulimit -f unlimited");
}

Finding OpenFilesFinding(const PreflightRoots& roots) {
  const Topic topic = {"open_files", "open files"};
  std::optional<Limit> limit = ReadLimit(roots, "Max open files");
  if (!limit) return topic.Unknown();
  if (!limit->soft) return topic.Fine("unlimited");
  std::string value = fmt::format("{}", *limit->soft);
  std::string command = "ulimit -n 65536";
  if (*limit->soft < 64)
    return topic.Problem(value, "Files, rings and libraries need more descriptors.", command);
  if (*limit->soft < 1024)
    return topic.Note(value, "Many threads or directories may need more descriptors.", command);
  return topic.Fine(value);
}

}  // namespace strata::aio
