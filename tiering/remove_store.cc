// How a store ends, and how it is kept from others.
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
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

// Of a file called rank-N.something.
std::optional<uint32_t> RankOf(std::string_view name) {
  constexpr std::string_view kPrefix = "rank-";
  if (!name.starts_with(kPrefix)) return std::nullopt;
  name.remove_prefix(kPrefix.size());
  uint32_t rank = 0;
  auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), rank);
  const bool is_rank = error == std::errc() && end != name.data() + name.size() && *end == '.';
  return is_rank ? std::optional(rank) : std::nullopt;
}

Status AddRanksIn(const std::string& folder, std::set<uint32_t>& ranks) {
  std::error_code error;
  std::filesystem::directory_iterator entry(folder, error);
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    const std::string name = entry->path().filename();
    if (auto rank = RankOf(name)) ranks.insert(*rank);
  }
  if (!error || error == std::errc::no_such_file_or_directory) return OkStatus();
  return ErrnoStatus(error.value(), "list " + folder);
}

}  // namespace

Status BlockStore::RemoveAll(const std::vector<std::string>& directories,
                             const std::string& run_id) {
  STRATA_ASSIGN_OR_RETURN(StorePaths paths, StorePaths::Create(directories, run_id, 0));
  std::set<uint32_t> ranks;
  for (size_t i = 0; i < directories.size(); ++i)
    STRATA_RETURN_IF_ERROR(AddRanksIn(paths.Folder(i), ranks));
  for (uint32_t rank : ranks) STRATA_RETURN_IF_ERROR(Remove(directories, run_id, rank));
  return OkStatus();
}

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

struct StoreHold::Lock {
  StoreLock lock;
};

Result<StoreHold> StoreHold::Acquire(const std::vector<std::string>& directories,
                                     const std::string& run_id, uint32_t rank) {
  STRATA_ASSIGN_OR_RETURN(StorePaths paths, StorePaths::Create(directories, run_id, rank));
  STRATA_ASSIGN_OR_RETURN(StoreLock lock, StoreLock::Acquire(paths.Lock()));
  return StoreHold(std::make_unique<Lock>(std::move(lock)));
}

StoreHold::StoreHold(std::unique_ptr<Lock> lock) : lock_(std::move(lock)) {}
StoreHold::StoreHold(StoreHold&&) noexcept = default;
StoreHold& StoreHold::operator=(StoreHold&&) noexcept = default;
StoreHold::~StoreHold() = default;

}  // namespace strata::tiering
