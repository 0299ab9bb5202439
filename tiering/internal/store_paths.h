// The names of a store's files, and what is there under them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "aio/base/status.h"
#include "tiering/internal/manifest.h"

namespace strata::tiering {

// Several ranks share the directories: every name begins with the rank.
class StorePaths {
 public:
  // kInvalidArgument when the run id is no file name or a directory is given twice.
  static Result<StorePaths> Create(std::vector<std::string> directories, const std::string& run_id,
                                   uint32_t rank);

  // What the user named; strata-RUN_ID below it; the blocks in that.
  const std::vector<std::string>& directories() const { return directories_; }
  std::string Folder(size_t directory) const;
  std::string Blocks(size_t directory) const;
  std::string Lock() const;
  std::string ManifestPath(uint64_t generation) const;
  uint32_t rank() const { return rank_; }

  // Of all manifests there, damaged ones included; ascending. Empty when the folder is not there.
  Result<std::vector<uint64_t>> ManifestNumbers() const;
  // Files that a crash left half-way to being a manifest.
  void RemoveUnfinishedManifests() const;

 private:
  StorePaths() = default;
  // What stands after "rank-R.manifest-" in the names of the first folder.
  Result<std::vector<std::string>> ManifestSuffixes() const;

  std::vector<std::string> directories_;
  std::string folder_name_;
  uint32_t rank_ = 0;
};

// Makes new, renamed and removed names in a directory durable.
Status SyncDirectory(const std::string& path);

// The manifests of valid generations, oldest first: the newest one that is whole and those that are
// pinned.
struct ManifestSet {
  std::vector<Manifest> valid;
  std::vector<uint64_t> superseded;  // whole, not pinned, and not the newest
  std::vector<uint64_t> damaged;
  uint64_t last_number = 0;  // of all there, 0 when there is none
};
Result<ManifestSet> LoadManifests(const StorePaths& paths);

// Writes it; returns its size. After a failure it may be there nevertheless.
Result<uint64_t> WriteManifest(const StorePaths& paths, const Manifest& manifest);
// Durably. One that is not there is removed already.
Status RemoveManifest(const StorePaths& paths, uint64_t generation);

}  // namespace strata::tiering
