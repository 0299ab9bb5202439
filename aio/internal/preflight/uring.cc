#include "aio/internal/preflight/uring.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cerrno>

#include "aio/base/status.h"
#include "aio/internal/attribute.h"
#include "aio/internal/preflight/findings.h"
#include "aio/internal/preflight/process.h"

namespace strata::aio {
namespace {

const Topic kUring = {"io_uring", "io_uring"};

std::string Kernel(const PreflightRoots& roots) {
  return "kernel " + ReadAttribute(roots.proc + "/sys/kernel/osrelease").value_or("unknown");
}

// sysctl kernel.io_uring_disabled: 1 leaves it to the privileged, 2 to nobody.
bool IsSwitchedOff(const PreflightRoots& roots) {
  uint64_t disabled = ReadNumber(roots.proc + "/sys/kernel/io_uring_disabled").value_or(0);
  return disabled >= 2 || (disabled == 1 && !HasCapability(roots, Capability::kSysAdmin));
}

Finding SwitchedOff(const std::string& value) {
  return kUring.Problem(value,
                        "io_uring is switched off for this user by sysctl. Other backends work and "
                        "cost more CPU.",
                        "sudo sysctl kernel.io_uring_disabled=0");
}

Finding FilteredOut(const std::string& value) {
  return kUring.Problem(value,
                        "A seccomp filter forbids io_uring, as docker's own profile does. Other "
                        "backends work and cost more CPU. Let the container have it, or write a "
                        "profile that allows io_uring_setup, io_uring_enter and io_uring_register.",
                        "docker run --security-opt seccomp=unconfined ...");
}

Finding Refused(int error_number, const PreflightRoots& roots) {
  std::string value = ErrnoStatus(error_number, "io_uring_setup").message();
  bool is_forbidden = error_number == EPERM || error_number == EACCES;
  if (is_forbidden && IsSwitchedOff(roots)) return SwitchedOff(value);
  if ((is_forbidden || error_number == ENOSYS) && IsFiltered(roots)) return FilteredOut(value);
  if (error_number == ENOSYS) {
    return kUring.Problem(value + " (" + Kernel(roots) + ")",
                          "This kernel is built without io_uring or older than 5.1. Other backends "
                          "work and cost more CPU.");
  }
  if (is_forbidden) {
    return kUring.Problem(value,
                          "A security module (SELinux, AppArmor) forbids io_uring: see its log.",
                          "sudo journalctl -k | grep -i -e avc -e apparmor");
  }
  if (error_number == ENOMEM) {
    return kUring.Problem(value, "Rings of this kernel count as locked memory: raise that limit.",
                          "ulimit -l unlimited");
  }
  if (error_number == EMFILE || error_number == ENFILE)
    return kUring.Problem(value, "A ring is a descriptor: raise that limit.", "ulimit -n 65536");
  return kUring.Problem(value, "The kernel refuses a ring.");
}

}  // namespace

Finding UringFinding(const UringAnswer& answer, const PreflightRoots& roots) {
  if (answer.error_number != 0) return Refused(answer.error_number, roots);
  std::string value = fmt::format("{}: {}", Kernel(roots), fmt::join(answer.features, ", "));
  if (answer.register_error_number != 0) {
    return kUring.Note(value + "; no registered memory",
                       ErrnoStatus(answer.register_error_number, "io_uring_register").message() +
                           ": transfers cost more CPU.",
                       "ulimit -l unlimited");
  }
  value += ", registered memory";
  if (std::find(answer.missing.begin(), answer.missing.end(), "DEFER_TASKRUN") !=
      answer.missing.end()) {
    return kUring.Note(fmt::format("{}; lacks {}", value, fmt::join(answer.missing, ", ")),
                       "Kernels from 6.1 on complete requests without interrupting the thread that "
                       "waits for them, which costs less CPU.");
  }
  return kUring.Fine(value);
}

}  // namespace strata::aio
