// The paths of a target, looked at, opened, and given room.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "aio/base/status.h"
#include "aio/bench/target.h"
#include "aio/file.h"

namespace strata::aio {

struct OpenedPath {
  TargetPath info;
  File file;
  uint64_t capacity_bytes = std::numeric_limits<uint64_t>::max();  // of what was there before
};

// A missing path, an empty file, and what is neither file nor directory nor drive are errors.
Result<OpenedPath> OpenTargetPath(const std::string& path, ExistingData existing);

// kResourceExhausted when the file systems of the scratch files have less room than that, one
// number per path; paths on the same file system share its room.
Status CheckRoom(std::span<const OpenedPath> paths, std::span<const uint64_t> needed_bytes);

// What a person should know of how the path behaves.
std::vector<std::string> NotesOn(const OpenedPath& path);

}  // namespace strata::aio
