// The .blocks files of a store: made at full size, written once, then only overwritten.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "aio/base/status.h"
#include "aio/file.h"
#include "aio/io_engine.h"
#include "tiering/internal/store_paths.h"

namespace strata::tiering {

using InitialiseProgress = std::function<void(uint64_t done_bytes, uint64_t total_bytes)>;

// Each directory is there, and is one. A warning for each that is on tmpfs.
Status CheckDirectories(const StorePaths& paths);

// kResourceExhausted when a file system has less free than `more_bytes`, by directory, asks of it;
// says how much is missing where.
Status CheckFreeSpace(const StorePaths& paths, const std::vector<uint64_t>& more_bytes);

// kUnimplemented where direct I/O wants a larger alignment than the slots have that blocks lie in.
Status CheckDirectIo(const std::string& path, uint64_t offset_alignment_bytes,
                     uint64_t memory_alignment_bytes);

Result<std::vector<aio::File>> OpenBlockFiles(const StorePaths& paths, aio::FileAccess access,
                                              aio::FileCreate create);

// Brings the files to `size_bytes`, by directory, and writes zeros over what is new: a drive is
// 2-4 x slower at growing a file than at overwriting it, and ENOSPC comes now.
Status GrowBlockFiles(const StorePaths& paths, std::vector<aio::File>& files,
                      const std::vector<uint64_t>& size_bytes, aio::IoEngine* engine,
                      const InitialiseProgress& progress);

}  // namespace strata::tiering
