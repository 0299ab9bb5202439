// How a store ends.
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <string>
#include <vector>

#include "tiering/block_store.h"
#include "tiering/internal/store_lock.h"
#include "tiering/internal/store_paths.h"

namespace strata::tiering {
namespace {

Status RemoveFile(const std::string& path) {
  if (unlink(path.c_str()) == 0 || errno == ENOENT) return OkStatus();
  return ErrnoStatus(errno, "remove " + path);
}

// A folder that another rank uses is not empty, and stays.
Status RemoveFolder(const std::string& path) {
  if (rmdir(path.c_str()) == 0) return OkStatus();
  if (errno == ENOENT || errno == ENOTEMPTY || errno == EEXIST) return OkStatus();
  return ErrnoStatus(errno, "remove " + path);
}

bool Exists(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

}  // namespace

Status BlockStore::Remove(const std::vector<std::string>& directories, const std::string& run_id,
                          uint32_t rank) {
  STRATA_ASSIGN_OR_RETURN(StorePaths paths, StorePaths::Create(directories, run_id, rank));
  StoreLock lock;
  if (Exists(paths.Lock())) {
    STRATA_ASSIGN_OR_RETURN(lock, StoreLock::Acquire(paths.Lock()));
  }
  // Manifests first: without one, what a crash leaves here is a leftover and not a damaged store.
  if (Exists(paths.Folder(0))) {
    STRATA_ASSIGN_OR_RETURN(std::vector<uint64_t> generations, paths.ManifestNumbers());
    for (uint64_t generation : generations) {
      STRATA_RETURN_IF_ERROR(RemoveManifest(paths, generation));
    }
    paths.RemoveUnfinishedManifests();
  }
  for (size_t i = 0; i < paths.directories().size(); ++i) {
    STRATA_RETURN_IF_ERROR(RemoveFile(paths.Blocks(i)));
  }
  STRATA_RETURN_IF_ERROR(RemoveFile(paths.Lock()));
  for (size_t i = 0; i < paths.directories().size(); ++i) {
    STRATA_RETURN_IF_ERROR(RemoveFolder(paths.Folder(i)));
  }
  return OkStatus();
}

}  // namespace strata::tiering
