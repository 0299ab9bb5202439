// What /proc/self tells of this process's limits and rights.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "aio/preflight_roots.h"

namespace strata::aio {

struct Limit {
  std::optional<uint64_t> soft;  // nothing: unlimited
};
// `name` as in /proc/self/limits: "Max open files".
std::optional<Limit> ReadLimit(const PreflightRoots& roots, std::string_view name);

enum class Capability { kIpcLock = 14, kSysAdmin = 21 };
// Whether the process has it over the whole machine, not only over its own user namespace.
bool HasCapability(const PreflightRoots& roots, Capability capability);

// Whether a seccomp filter looks at its system calls.
bool IsFiltered(const PreflightRoots& roots);

}  // namespace strata::aio
