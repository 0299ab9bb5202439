// How a store comes to be: created, opened, listed.
#include "tiering/block_store.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <utility>

#include "aio/base/log.h"
#include "aio/base/units.h"
#include "tiering/arena.h"
#include "tiering/internal/extent_store.h"
#include "tiering/internal/match_generations.h"
#include "tiering/internal/store_files.h"

namespace strata::tiering {
namespace {

// Takes away what a Create() that fails has made.
class CreatedPaths {
 public:
  CreatedPaths() = default;
  CreatedPaths(const CreatedPaths&) = delete;
  CreatedPaths& operator=(const CreatedPaths&) = delete;
  ~CreatedPaths() {
    for (auto path = paths_.rbegin(); path != paths_.rend(); ++path) {
      // A folder that another rank uses by now is not empty, and stays.
      if (remove(path->c_str()) != 0 && errno != ENOENT && errno != ENOTEMPTY && errno != EEXIST)
        Log(Severity::kWarning, "tiering", "cannot remove {} again: {}", *path,
            ErrnoStatus(errno, "remove").message());
    }
  }

  void Add(std::string path) { paths_.push_back(std::move(path)); }
  void Keep() { paths_.clear(); }

 private:
  std::vector<std::string> paths_;
};

Status CheckBlocks(const std::vector<BlockDescription>& blocks) {
  std::map<std::string_view, int> seen;
  for (const BlockDescription& block : blocks) {
    if (block.size_bytes == 0)
      return InvalidArgument(fmt::format("block '{}' has no bytes", block.name));
    if (seen[block.name]++ > 0)
      return InvalidArgument(fmt::format("two blocks are called '{}'", block.name));
  }
  return OkStatus();
}

Result<StorePaths> CheckOptions(const BlockStoreOptions& options,
                                const std::vector<BlockDescription>& blocks) {
  STRATA_RETURN_IF_ERROR(CheckBlocks(blocks));
  if (options.num_generations < 2) {
    return InvalidArgument(
        fmt::format("num_generations is {}: the valid generation and the one being written are two",
                    options.num_generations));
  }
  STRATA_ASSIGN_OR_RETURN(StorePaths paths,
                          StorePaths::Create(options.directories, options.run_id, options.rank));
  STRATA_RETURN_IF_ERROR(CheckDirectories(paths));
  return paths;
}

uint64_t PaddedBytes(const BlockDescription& block) {
  return RoundUp(block.size_bytes, kSlotAlignmentBytes);
}

// Adds the room that these blocks still lack. The largest first: the small ones even out.
std::vector<std::optional<ExtentIndex>> LayOut(ExtentTable& extents,
                                               const std::vector<BlockDescription>& blocks,
                                               uint32_t num_generations) {
  std::map<uint64_t, uint64_t, std::greater<>> durable;
  for (const BlockDescription& block : blocks)
    if (block.durability == Durability::kDurable)
      durable[PaddedBytes(block)] += num_generations + block.more_versions;
  for (auto [extent_bytes, count] : durable) extents.Require(extent_bytes, count);
  std::vector<std::optional<ExtentIndex>> scratch;
  for (const BlockDescription& block : blocks) {
    bool durable_block = block.durability == Durability::kDurable;
    scratch.push_back(durable_block ? std::nullopt
                                    : std::optional(extents.AddScratch(PaddedBytes(block))));
  }
  return scratch;
}

Status MakeFolders(const StorePaths& paths, CreatedPaths& created) {
  for (size_t i = 0; i < paths.directories().size(); ++i) {
    if (mkdir(paths.Folder(i).c_str(), 0777) == 0) {
      created.Add(paths.Folder(i));
      STRATA_RETURN_IF_ERROR(SyncDirectory(paths.directories()[i]));
    } else if (errno != EEXIST) {
      return ErrnoStatus(errno, fmt::format("making {} in the NVMe directory", paths.Folder(i)));
    }
  }
  return OkStatus();
}

// With the lock held, files without a manifest belong to nobody alive.
Status RemoveLeftovers(const StorePaths& paths) {
  STRATA_ASSIGN_OR_RETURN(std::vector<uint64_t> numbers, paths.ManifestNumbers());
  if (!numbers.empty()) {
    return Status(Code::kAlreadyExists,
                  fmt::format("{} has a store with generation {}: resume it, remove the folder, or "
                              "give this run another id",
                              paths.Folder(0), numbers.back()));
  }
  paths.RemoveUnfinishedManifests();
  for (size_t i = 0; i < paths.directories().size(); ++i) {
    if (unlink(paths.Blocks(i).c_str()) == 0)
      Log(Severity::kInfo, "tiering", "removed {} of a job that ended before its first commit",
          paths.Blocks(i));
    else if (errno != ENOENT)
      return ErrnoStatus(errno, fmt::format("removing {}", paths.Blocks(i)));
  }
  return OkStatus();
}

Result<StoreLock> LockFolder(const StorePaths& paths, CreatedPaths& created) {
  bool existed = access(paths.Lock().c_str(), F_OK) == 0;
  STRATA_ASSIGN_OR_RETURN(StoreLock lock, StoreLock::Acquire(paths.Lock()));
  if (!existed) created.Add(paths.Lock());
  return lock;
}

Result<std::vector<aio::File>> CreateFiles(const StorePaths& paths, const ExtentTable& extents,
                                           const BlockStoreOptions& options, aio::IoEngine* engine,
                                           CreatedPaths& created) {
  STRATA_RETURN_IF_ERROR(CheckFreeSpace(paths, extents.end_bytes()));
  for (size_t i = 0; i < paths.directories().size(); ++i) created.Add(paths.Blocks(i));
  STRATA_ASSIGN_OR_RETURN(
      std::vector<aio::File> files,
      OpenBlockFiles(paths, aio::FileAccess::kReadWrite, aio::FileCreate::kCreateNew));
  STRATA_RETURN_IF_ERROR(
      GrowBlockFiles(paths, files, extents.end_bytes(), engine, options.on_initialise));
  for (size_t i = 0; i < paths.directories().size(); ++i)
    STRATA_RETURN_IF_ERROR(SyncDirectory(paths.Folder(i)));
  return files;
}

// Which of the valid generations to open.
Result<const Manifest*> Choose(const ManifestSet& set, std::optional<uint64_t> generation,
                               const StorePaths& paths) {
  if (set.valid.empty()) {
    return NotFound(fmt::format("{} has no valid generation of rank {}{}", paths.Folder(0),
                                paths.rank(),
                                set.damaged.empty() ? "" : ": all manifests are damaged"));
  }
  if (!generation) return &set.valid.back();
  auto found = std::ranges::find(set.valid, *generation, &Manifest::generation);
  if (found != set.valid.end()) return &*found;
  return NotFound(fmt::format("{} has no valid generation {} of rank {}: the newest is {}",
                              paths.Folder(0), *generation, paths.rank(),
                              set.valid.back().generation));
}

// The table as the newest generation knows it: segments are only ever added, so it knows all.
Result<ExtentTable> TableOf(const ManifestSet& set, const StorePaths& paths) {
  const Manifest& newest = set.valid.back();
  if (newest.num_directories != paths.directories().size()) {
    return InvalidArgument(fmt::format("the store in {} lies in {} NVMe directories, {} are given",
                                       paths.Folder(0), newest.num_directories,
                                       paths.directories().size()));
  }
  ExtentTable extents(newest.num_directories);
  STRATA_RETURN_IF_ERROR(
      extents.AddSegments(newest.segments).With(paths.ManifestPath(newest.generation)));
  return extents;
}

Status CheckSizes(const std::vector<aio::File>& files, const ExtentTable& extents) {
  for (size_t i = 0; i < files.size(); ++i) {
    STRATA_ASSIGN_OR_RETURN(uint64_t size_bytes, files[i].SizeBytes());
    if (size_bytes >= extents.end_bytes()[i]) continue;
    return DataLoss(
        fmt::format("{} has {} bytes, its generations need {}: it was cut off; restore "
                    "it, or start the run anew",
                    files[i].path(), size_bytes, extents.end_bytes()[i]));
  }
  return OkStatus();
}

void RemoveSuperseded(const StorePaths& paths, const ManifestSet& set) {
  paths.RemoveUnfinishedManifests();
  for (uint64_t number : set.superseded) {
    Status removed = RemoveManifest(paths, number);
    if (!removed.ok()) Log(Severity::kWarning, "tiering", "{}", removed.message());
  }
}

// Opens the files and takes room for what the run asks beyond what is there.
Status OpenAndGrow(StoreParts& parts) {
  bool read_only = parts.options.read_only;
  auto access = read_only ? aio::FileAccess::kReadOnly : aio::FileAccess::kReadWrite;
  STRATA_ASSIGN_OR_RETURN(parts.files,
                          OpenBlockFiles(parts.paths, access, aio::FileCreate::kMustExist));
  STRATA_RETURN_IF_ERROR(CheckSizes(parts.files, parts.extents));
  parts.scratch_extents.resize(parts.blocks.size());
  if (read_only) return OkStatus();
  parts.scratch_extents = LayOut(parts.extents, parts.blocks, parts.options.num_generations);
  return GrowBlockFiles(parts.paths, parts.files, parts.extents.end_bytes(), parts.engine,
                        parts.options.on_initialise);
}

}  // namespace

Result<std::unique_ptr<BlockStore>> BlockStore::Create(const BlockStoreOptions& options,
                                                       std::vector<BlockDescription> blocks,
                                                       aio::IoEngine* engine) {
  STRATA_CHECK(!options.read_only);
  STRATA_ASSIGN_OR_RETURN(StorePaths paths, CheckOptions(options, blocks));
  ExtentTable extents(static_cast<uint32_t>(paths.directories().size()));
  auto scratch_extents = LayOut(extents, blocks, options.num_generations);
  StoreLock lock;  // outlives `created`: what that removes must not be another's by then
  CreatedPaths created;
  STRATA_RETURN_IF_ERROR(MakeFolders(paths, created));
  STRATA_ASSIGN_OR_RETURN(lock, LockFolder(paths, created));
  STRATA_RETURN_IF_ERROR(RemoveLeftovers(paths));
  STRATA_ASSIGN_OR_RETURN(std::vector<aio::File> files,
                          CreateFiles(paths, extents, options, engine, created));
  created.Keep();
  return std::unique_ptr<BlockStore>(
      std::make_unique<ExtentStore>(StoreParts{.options = options,
                                               .paths = std::move(paths),
                                               .lock = std::move(lock),
                                               .files = std::move(files),
                                               .extents = std::move(extents),
                                               .blocks = std::move(blocks),
                                               .scratch_extents = std::move(scratch_extents),
                                               .generations = {},
                                               .damaged_manifests = {},
                                               .engine = engine}));
}

Result<std::unique_ptr<BlockStore>> BlockStore::Open(const BlockStoreOptions& options,
                                                     std::vector<BlockDescription> blocks,
                                                     aio::IoEngine* engine,
                                                     std::optional<uint64_t> generation) {
  STRATA_ASSIGN_OR_RETURN(StorePaths paths, CheckOptions(options, blocks));
  struct stat folder = {};
  if (stat(paths.Folder(0).c_str(), &folder) != 0)
    return ErrnoStatus(errno, fmt::format("opening the store {}", paths.Folder(0)));
  StoreLock lock;
  if (!options.read_only) {
    STRATA_ASSIGN_OR_RETURN(lock, StoreLock::Acquire(paths.Lock()));
  }
  STRATA_ASSIGN_OR_RETURN(ManifestSet set, LoadManifests(paths));
  STRATA_ASSIGN_OR_RETURN(const Manifest* chosen, Choose(set, generation, paths));
  STRATA_ASSIGN_OR_RETURN(ExtentTable extents, TableOf(set, paths));
  STRATA_ASSIGN_OR_RETURN(std::vector<GenerationRecord> records,
                          MatchGenerations(set.valid, extents, blocks, options.read_only));
  StoreParts parts{.options = options,
                   .paths = std::move(paths),
                   .lock = std::move(lock),
                   .files = {},
                   .extents = std::move(extents),
                   .blocks = std::move(blocks),
                   .scratch_extents = {},
                   .generations = std::move(records),
                   .base_generation = chosen->generation,
                   .last_number = set.last_number,
                   .damaged_manifests = set.damaged,
                   .engine = engine};
  STRATA_RETURN_IF_ERROR(OpenAndGrow(parts));
  if (!options.read_only) RemoveSuperseded(parts.paths, set);
  return std::unique_ptr<BlockStore>(std::make_unique<ExtentStore>(std::move(parts)));
}

Result<std::vector<Generation>> BlockStore::List(const std::vector<std::string>& directories,
                                                 const std::string& run_id, uint32_t rank) {
  STRATA_ASSIGN_OR_RETURN(StorePaths paths, StorePaths::Create(directories, run_id, rank));
  STRATA_ASSIGN_OR_RETURN(ManifestSet set, LoadManifests(paths));
  if (set.valid.empty()) return Choose(set, {}, paths).status();
  std::vector<Generation> generations;
  for (Manifest& manifest : set.valid)
    generations.push_back({manifest.generation, std::move(manifest.metadata), manifest.pinned});
  return generations;
}

uint64_t StoreCapacityBytes(const std::vector<BlockDescription>& blocks, uint32_t num_generations) {
  uint64_t bytes = 0;
  for (const BlockDescription& block : blocks) {
    bool durable = block.durability == Durability::kDurable;
    bytes += PaddedBytes(block) * (durable ? num_generations + block.more_versions : 1);
  }
  return bytes;
}

}  // namespace strata::tiering
