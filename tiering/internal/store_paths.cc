#include "tiering/internal/store_paths.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <optional>
#include <set>

#include "aio/base/log.h"
#include "aio/base/units.h"
#include "aio/file.h"

namespace strata::tiering {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxManifestBytes = 1_GiB;
constexpr int kMaxListings = 16;

std::string ManifestPrefix(uint32_t rank) { return fmt::format("rank-{}.manifest-", rank); }

// Written as we write it: no sign, no leading zeros.
std::optional<uint64_t> ParseNumber(const std::string& text) {
  uint64_t number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || fmt::to_string(number) != text) return std::nullopt;
  return number;
}

bool IsFileName(const std::string& name) {
  auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
  };
  return !name.empty() && name.size() <= 200 && std::ranges::all_of(name, allowed);
}

Result<Manifest> ReadManifest(const StorePaths& paths, uint64_t generation) {
  STRATA_ASSIGN_OR_RETURN(std::string bytes,
                          aio::ReadSmallFile(paths.ManifestPath(generation), kMaxManifestBytes));
  auto manifest = DecodeManifest(bytes);
  if (!manifest.ok()) return manifest.status().With(paths.ManifestPath(generation));
  if (manifest->generation != generation || manifest->rank != paths.rank()) {
    return DataLoss(fmt::format("{}: it is generation {} of rank {}",
                                paths.ManifestPath(generation), manifest->generation,
                                manifest->rank));
  }
  return manifest;
}

// Only a manifest that is not what was written may be passed over for an older one. One that could
// not be read, this time or by this program, may be whole, and the next commit would delete it.
bool IsDamage(const Status& status) { return status.code() == Code::kDataLoss; }

Status WithWayOut(const Status& status) {
  if (status.code() != Code::kIoError) return status;
  return Status(status.code(), fmt::format("{}: try again; should it stay so, remove that file to "
                                           "go back to the generation before",
                                           status.message()));
}

// kNotFound when one vanished since it was listed.
Result<ManifestSet> LoadManifestsOnce(const StorePaths& paths) {
  STRATA_ASSIGN_OR_RETURN(std::vector<uint64_t> numbers, paths.ManifestNumbers());
  ManifestSet set;
  if (!numbers.empty()) set.last_number = numbers.back();
  for (auto number = numbers.rbegin(); number != numbers.rend(); ++number) {
    auto manifest = ReadManifest(paths, *number);
    if (!manifest.ok() && !IsDamage(manifest.status())) return WithWayOut(manifest.status());
    if (!manifest.ok()) {
      Log(Severity::kWarning, "tiering", "generation {} is damaged and passed over: {}", *number,
          manifest.status().message());
      set.damaged.push_back(*number);
    } else if (set.valid.empty() || manifest->pinned) {
      set.valid.push_back(std::move(manifest).value());
    } else {
      set.superseded.push_back(*number);
    }
  }
  std::ranges::reverse(set.valid);
  return set;
}

}  // namespace

Result<StorePaths> StorePaths::Create(std::vector<std::string> directories,
                                      const std::string& run_id, uint32_t rank) {
  if (!IsFileName(run_id)) {
    return InvalidArgument(fmt::format(
        "'{}' is no run id: use letters, digits, '-', '_' and '.', 200 at most", run_id));
  }
  if (directories.empty())
    return InvalidArgument("a block store needs an NVMe directory: none given");
  std::set<fs::path> seen;
  for (const std::string& directory : directories) {
    std::error_code error;
    fs::path path = fs::weakly_canonical(directory, error);
    if (!seen.insert(error ? fs::path(directory) : path).second)
      return InvalidArgument(fmt::format("NVMe directory {} is given twice", directory));
  }
  StorePaths paths;
  paths.directories_ = std::move(directories);
  paths.folder_name_ = "strata-" + run_id;
  paths.rank_ = rank;
  return paths;
}

std::string StorePaths::Folder(size_t directory) const {
  return directories_[directory] + "/" + folder_name_;
}

std::string StorePaths::Blocks(size_t directory) const {
  // The number in the name of all but the first tells directories given in another order.
  std::string suffix = directory == 0 ? "" : fmt::format("-{}", directory);
  return fmt::format("{}/rank-{}.blocks{}", Folder(directory), rank_, suffix);
}

std::string StorePaths::Lock() const { return fmt::format("{}/rank-{}.lock", Folder(0), rank_); }

std::string StorePaths::ManifestPath(uint64_t generation) const {
  return fmt::format("{}/{}{}", Folder(0), ManifestPrefix(rank_), generation);
}

Result<std::vector<std::string>> StorePaths::ManifestSuffixes() const {
  std::vector<std::string> suffixes;
  std::string prefix = ManifestPrefix(rank_);
  std::error_code error;
  fs::directory_iterator entry(Folder(0), error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    std::string name = entry->path().filename();
    if (name.starts_with(prefix)) suffixes.push_back(name.substr(prefix.size()));
  }
  if (error && error != std::errc::no_such_file_or_directory)
    return ErrnoStatus(error.value(), fmt::format("listing {}", Folder(0)));
  return suffixes;
}

Result<std::vector<uint64_t>> StorePaths::ManifestNumbers() const {
  STRATA_ASSIGN_OR_RETURN(std::vector<std::string> suffixes, ManifestSuffixes());
  std::vector<uint64_t> numbers;
  for (const std::string& suffix : suffixes)
    if (auto number = ParseNumber(suffix)) numbers.push_back(*number);
  std::ranges::sort(numbers);
  return numbers;
}

void StorePaths::RemoveUnfinishedManifests() const {
  auto suffixes = ManifestSuffixes();
  if (!suffixes.ok()) return;  // whoever lists them next reports it
  for (const std::string& suffix : *suffixes) {
    std::error_code error;
    std::string path = fmt::format("{}/{}{}", Folder(0), ManifestPrefix(rank_), suffix);
    if (!ParseNumber(suffix) && !fs::remove(path, error) && error)
      Log(Severity::kWarning, "tiering", "cannot remove {}: {}", path, error.message());
  }
}

Status SyncDirectory(const std::string& path) {
  int fd = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return ErrnoStatus(errno, fmt::format("opening {}", path));
  Status status = fsync(fd) == 0 ? OkStatus() : ErrnoStatus(errno, fmt::format("fsync {}", path));
  close(fd);  // nothing was written through it, so nothing can be lost here
  return status;
}

Result<ManifestSet> LoadManifests(const StorePaths& paths) {
  // A job that commits meanwhile removes manifests; each try sees a later state of it.
  for (int listing = 1;; ++listing) {
    auto set = LoadManifestsOnce(paths);
    if (set.ok() || set.status().code() != Code::kNotFound || listing == kMaxListings) return set;
  }
}

Result<uint64_t> WriteManifest(const StorePaths& paths, const Manifest& manifest) {
  std::string bytes = EncodeManifest(manifest);
  STRATA_RETURN_IF_ERROR(aio::WriteFileAtomically(paths.ManifestPath(manifest.generation), bytes));
  return bytes.size();
}

Status RemoveManifest(const StorePaths& paths, uint64_t generation) {
  std::string path = paths.ManifestPath(generation);
  if (unlink(path.c_str()) != 0 && errno != ENOENT)
    return ErrnoStatus(errno, fmt::format("removing {}", path));
  return SyncDirectory(paths.Folder(0));
}

}  // namespace strata::tiering
