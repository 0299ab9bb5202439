#include "aio/bench/target.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <random>
#include <utility>

#include "aio/base/check.h"
#include "aio/bench/internal/target_content.h"
#include "aio/bench/internal/target_io.h"
#include "aio/bench/internal/target_paths.h"
#include "aio/bench/pattern.h"

namespace strata::aio {

namespace {

constexpr uint64_t kMaxSampleBytes = 256_MiB;

uint64_t RoundDown(uint64_t value, uint64_t multiple) { return value / multiple * multiple; }

uint64_t RandomSeed() {
  std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

Result<std::vector<OpenedPath>> OpenAll(const TargetOptions& options) {
  if (options.paths.empty()) return InvalidArgument("no path was named");
  std::vector<OpenedPath> paths;
  for (const std::string& path : options.paths) {
    STRATA_ASSIGN_OR_RETURN(OpenedPath opened, OpenTargetPath(path, options.existing));
    paths.push_back(std::move(opened));
  }
  return paths;
}

// How fast each path is alone. What is written for that is written over later.
Status MeasureShares(std::vector<OpenedPath>& paths, uint64_t sample_bytes, uint64_t seed,
                     const BytesProgress& progress, const StopCheck& stop) {
  for (size_t i = 0; i < paths.size(); ++i) {
    OpenedPath& path = paths[i];
    if (progress) progress("measuring each path alone", i, paths.size());
    uint64_t bytes = std::min(sample_bytes, path.capacity_bytes);
    if (path.info.kind == TargetKind::kScratch) {
      STRATA_RETURN_IF_ERROR(path.file.Preallocate(bytes));
      STRATA_RETURN_IF_ERROR(WriteSample(path.file, bytes, seed, stop));
      STRATA_RETURN_IF_ERROR(path.file.SyncData());
    }
    STRATA_ASSIGN_OR_RETURN(path.info.read_bytes_per_s,
                            MeasureReadBytesPerSecond(path.file, bytes, stop));
  }
  if (progress) progress("measuring each path alone", paths.size(), paths.size());
  return OkStatus();
}

Result<StripeLayout> MakeLayout(const TargetOptions& options, std::vector<OpenedPath>& paths,
                                uint64_t seed, const BytesProgress& progress,
                                const StopCheck& stop) {
  std::vector<double> weights(paths.size(), 1);
  if (options.shares == StripeShares::kMeasured && paths.size() > 1) {
    uint64_t sample_bytes =
        RoundUp(std::min(kMaxSampleBytes, options.size_bytes / paths.size()), kPatternSectorBytes);
    STRATA_RETURN_IF_ERROR(MeasureShares(paths, sample_bytes, seed, progress, stop));
    for (size_t i = 0; i < paths.size(); ++i) weights[i] = paths[i].info.read_bytes_per_s;
  }
  return StripeLayout(options.stripe_bytes, StripesPerRound(weights));
}

void RememberShares(const StripeLayout& layout, uint64_t size_bytes,
                    std::vector<OpenedPath>& paths) {
  double round = 0;
  for (uint32_t stripes : layout.stripes_per_round()) round += stripes;
  for (size_t i = 0; i < paths.size(); ++i) {
    paths[i].info.share = layout.stripes_per_round()[i] / round;
    paths[i].info.size_bytes = layout.FileBytes(i, size_bytes);
  }
}

uint64_t SizeThatFitsAll(const TargetOptions& options, const StripeLayout& layout,
                         std::span<const OpenedPath> paths) {
  uint64_t size_bytes = options.size_bytes;
  for (size_t i = 0; i < paths.size(); ++i) {
    if (paths[i].info.kind == TargetKind::kScratch) continue;
    size_bytes = std::min(size_bytes, layout.SizeThatFits(i, paths[i].capacity_bytes));
  }
  return RoundDown(size_bytes, kPatternSectorBytes);
}

Status CheckRoomFor(std::span<const OpenedPath> paths, const StripeLayout& layout,
                    uint64_t size_bytes) {
  std::vector<uint64_t> needed_bytes;
  for (size_t i = 0; i < paths.size(); ++i) needed_bytes.push_back(layout.FileBytes(i, size_bytes));
  return CheckRoom(paths, needed_bytes);
}

Status Allocate(std::span<OpenedPath> paths) {
  for (OpenedPath& path : paths) {
    if (path.info.kind != TargetKind::kScratch) continue;
    STRATA_RETURN_IF_ERROR(path.file.Preallocate(path.info.size_bytes));
  }
  return OkStatus();
}

Status CheckTargetOptions(const TargetOptions& options) {
  STRATA_CHECK(options.stripe_bytes > 0 && options.stripe_bytes % kPatternSectorBytes == 0);
  if (options.size_bytes >= kPatternSectorBytes) return OkStatus();
  return InvalidArgument(
      fmt::format("a target of {} bytes is too small: ask for 4KiB or more", options.size_bytes));
}

// What is only read cannot be striped with what has first to be written: half of the content would
// be known.
Status CheckMixture(std::span<const OpenedPath> paths) {
  auto is_writable = [](const OpenedPath& path) { return path.info.writable; };
  auto old = std::find_if_not(paths.begin(), paths.end(), is_writable);
  auto scratch = std::find_if(paths.begin(), paths.end(), is_writable);
  if (old == paths.end() || scratch == paths.end()) return OkStatus();
  return InvalidArgument(
      fmt::format("{} is only read and {} would be written: measure one after the other, or allow "
                  "the first to be overwritten (--destroy-data)",
                  old->info.path, scratch->info.path));
}

std::vector<std::string> AllNotes(const TargetOptions& options, std::span<const OpenedPath> paths,
                                  uint64_t size_bytes) {
  std::vector<std::string> notes;
  for (const OpenedPath& path : paths) {
    for (std::string& note : NotesOn(path)) notes.push_back(std::move(note));
  }
  if (size_bytes < RoundDown(options.size_bytes, kPatternSectorBytes))
    notes.push_back(fmt::format("{} are used: there is no more", FormatBytes(size_bytes)));
  return notes;
}

std::vector<File> TakeFiles(std::vector<OpenedPath>& paths) {
  std::vector<File> files;
  for (OpenedPath& path : paths) files.push_back(std::move(path.file));
  return files;
}

}  // namespace

std::string_view TargetKindName(TargetKind kind) {
  switch (kind) {
    case TargetKind::kScratch:
      return "scratch file";
    case TargetKind::kFile:
      return "file";
    case TargetKind::kBlockDevice:
      return "block device";
  }
  STRATA_CHECK(!"a kind of target");
  return "";
}

struct BenchTarget::State {
  State(std::vector<OpenedPath> opened, StripeLayout layout, uint64_t size, uint64_t seed)
      : files(TakeFiles(opened), std::move(layout)), size_bytes(size), content(files, size, seed) {
    for (OpenedPath& path : opened) paths.push_back(std::move(path.info));
  }
  State(const State&) = delete;

  std::vector<TargetPath> paths;
  std::vector<std::string> notes;
  StripedFile files;
  uint64_t size_bytes;
  TargetContent content;
};

BenchTarget::BenchTarget(std::unique_ptr<State> state) : state_(std::move(state)) {}
BenchTarget::~BenchTarget() = default;

Result<std::unique_ptr<BenchTarget>> BenchTarget::Create(const TargetOptions& options,
                                                         const BytesProgress& progress,
                                                         const StopCheck& stop) {
  STRATA_RETURN_IF_ERROR(CheckTargetOptions(options));
  STRATA_ASSIGN_OR_RETURN(std::vector<OpenedPath> paths, OpenAll(options));
  STRATA_RETURN_IF_ERROR(CheckMixture(paths));
  // A first look, before the shares are known, so that the sample is not what fills the disk.
  StripeLayout equal(options.stripe_bytes, std::vector<uint32_t>(paths.size(), 1));
  STRATA_RETURN_IF_ERROR(CheckRoomFor(paths, equal, SizeThatFitsAll(options, equal, paths)));
  uint64_t seed = options.seed == 0 ? RandomSeed() : options.seed;
  STRATA_ASSIGN_OR_RETURN(StripeLayout layout, MakeLayout(options, paths, seed, progress, stop));
  uint64_t size_bytes = SizeThatFitsAll(options, layout, paths);
  STRATA_RETURN_IF_ERROR(CheckRoomFor(paths, layout, size_bytes));
  RememberShares(layout, size_bytes, paths);
  STRATA_RETURN_IF_ERROR(Allocate(paths));
  std::vector<std::string> notes = AllNotes(options, paths, size_bytes);
  std::unique_ptr<BenchTarget> target(new BenchTarget(
      std::make_unique<State>(std::move(paths), std::move(layout), size_bytes, seed)));
  target->state_->notes = std::move(notes);
  STRATA_RETURN_IF_ERROR(target->WriteAll(progress, stop));
  return target;
}

// Files and drives that may not be written to are read as they are.
Status BenchTarget::WriteAll(const BytesProgress& progress, const StopCheck& stop) {
  if (CheckWritable().ok())
    STRATA_RETURN_IF_ERROR(
        WriteOnce(state_->files, state_->size_bytes, state_->content, progress, stop));
  return SyncAndDropCaches();
}

uint64_t BenchTarget::size_bytes() const { return state_->size_bytes; }
const StripedFile& BenchTarget::files() const { return state_->files; }
std::span<const TargetPath> BenchTarget::paths() const { return state_->paths; }
const std::vector<std::string>& BenchTarget::notes() const { return state_->notes; }

Status BenchTarget::CheckWritable() const {
  for (const TargetPath& path : state_->paths) {
    if (path.writable) continue;
    return FailedPrecondition(
        fmt::format("{}: a {} that was there before is only read: name a directory, in which a "
                    "scratch file is made, or allow its content to be destroyed (--destroy-data)",
                    path.path, TargetKindName(path.kind)));
  }
  return OkStatus();
}

Status BenchTarget::SyncAndDropCaches() {
  for (size_t i = 0; i < state_->paths.size(); ++i) {
    File& file = state_->files.files()[i];
    if (state_->paths[i].writable) STRATA_RETURN_IF_ERROR(file.SyncData());
    if (file.direct()) continue;
    if (int error_number = posix_fadvise(file.fd(), 0, 0, POSIX_FADV_DONTNEED); error_number != 0)
      return ErrnoStatus(error_number, "drop what is cached of " + file.path());
  }
  return OkStatus();
}

void BenchTarget::FillForWrite(uint64_t offset_bytes, std::span<std::byte> bytes) {
  state_->content.FillForWrite(offset_bytes, bytes);
}

void BenchTarget::StampForWrite(uint64_t offset_bytes, std::span<std::byte> bytes) {
  state_->content.StampForWrite(offset_bytes, bytes);
}

Status BenchTarget::Check(uint64_t offset_bytes, std::span<const std::byte> bytes) const {
  return state_->content.Check(offset_bytes, bytes);
}

Status BenchTarget::CheckAll(const BytesProgress& progress, const StopCheck& stop) const {
  return ReadAndCheck(state_->files, state_->size_bytes, state_->content, progress, stop);
}

}  // namespace strata::aio
