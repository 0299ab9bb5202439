#include "tests/aio/torture/file_model.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "aio/base/units.h"
#include "tests/aio/scratch.h"

namespace strata::aio {
namespace {

constexpr uint64_t kSectorBytes = 512;

File OpenFile(const std::string& path, bool direct) {
  return OrDie(File::Open(
      path,
      {.access = FileAccess::kReadWrite, .create = FileCreate::kCreateOrOpen, .direct = direct}));
}

}  // namespace

FileModel::FileModel(const std::string& path, uint64_t size_bytes, bool direct)
    : path_(path),
      direct_(direct),
      file_(OpenFile(path, direct)),
      bytes_(size_bytes),
      pages_(CeilDiv(size_bytes, kPageBytes)) {
  Status made = file_.Preallocate(size_bytes);
  STRATA_CHECK(made.ok());
}

void FileModel::Reopen() { file_ = OpenFile(path_, direct_); }

std::span<FileModel::Page> FileModel::Pages(uint64_t offset_bytes, uint64_t length_bytes) {
  uint64_t first = std::min<uint64_t>(offset_bytes / kPageBytes, pages_.size());
  uint64_t end =
      std::min<uint64_t>(CeilDiv(offset_bytes + length_bytes, kPageBytes), pages_.size());
  return std::span(pages_).subspan(first, end - first);
}

bool FileModel::Reserve(IoDirection direction, uint64_t offset_bytes, uint64_t length_bytes) {
  std::lock_guard lock(mutex_);
  bool is_read = direction == IoDirection::kRead;
  std::span<Page> pages = Pages(offset_bytes, length_bytes);
  bool in_use = std::ranges::any_of(pages, [&](const Page& page) {
    return page.has_writer || (!is_read && page.num_readers > 0);
  });
  if (in_use) return false;
  for (Page& page : pages) is_read ? ++page.num_readers : page.has_writer = true;
  return true;
}

void FileModel::Release(IoDirection direction, uint64_t offset_bytes, uint64_t length_bytes) {
  std::lock_guard lock(mutex_);
  for (Page& page : Pages(offset_bytes, length_bytes))
    direction == IoDirection::kRead ? --page.num_readers : page.has_writer = false;
}

void FileModel::Written(uint64_t offset_bytes, std::span<const std::byte> from) {
  std::ranges::copy(from, bytes_.begin() + static_cast<ptrdiff_t>(offset_bytes));
}

Status FileModel::Settle(uint64_t offset_bytes, std::span<const std::byte> from) {
  STRATA_ASSIGN_OR_RETURN(std::vector<std::byte> found, ReadBack(offset_bytes, from.size()));
  std::span<const std::byte> before = Content(offset_bytes, from.size());
  // Without direct I/O nothing says where a sector begins.
  uint64_t step_bytes = file_.direct() ? kSectorBytes : 1;
  for (uint64_t at = 0; at < from.size(); at += step_bytes) {
    uint64_t length_bytes = std::min<uint64_t>(step_bytes, from.size() - at);
    std::span<const std::byte> sector = std::span(found).subspan(at, length_bytes);
    if (std::ranges::equal(sector, from.subspan(at, length_bytes))) continue;
    if (std::ranges::equal(sector, before.subspan(at, length_bytes))) continue;
    return DataLoss(
        fmt::format("{} at byte {} holds neither the old nor the new", path_, offset_bytes + at));
  }
  Written(offset_bytes, found);
  return OkStatus();
}

// In whole pages, as direct I/O wants it. Past the engine: it is the one under test.
Result<std::vector<std::byte>> FileModel::ReadBack(uint64_t offset_bytes,
                                                   uint64_t length_bytes) const {
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  uint64_t first_bytes = offset_bytes / kPageBytes * kPageBytes;
  uint64_t end_bytes = RoundUp(offset_bytes + length_bytes, kPageBytes);
  std::unique_ptr<std::byte, Free> memory(
      static_cast<std::byte*>(std::aligned_alloc(kPageBytes, end_bytes - first_bytes)));
  uint64_t wanted_bytes = offset_bytes + length_bytes - first_bytes;
  ssize_t got =
      pread(file_.fd(), memory.get(), end_bytes - first_bytes, static_cast<off_t>(first_bytes));
  if (got < static_cast<ssize_t>(wanted_bytes))
    return DataLoss(fmt::format("{} cannot be read back: {} of {}", path_, got, wanted_bytes));
  return std::vector<std::byte>(memory.get() + offset_bytes - first_bytes,
                                memory.get() + wanted_bytes);
}

Status FileModel::CheckAll() const {
  STRATA_ASSIGN_OR_RETURN(uint64_t size_bytes, file_.SizeBytes());
  if (size_bytes != bytes_.size())
    return DataLoss(fmt::format("{} has {} bytes instead of {}", path_, size_bytes, bytes_.size()));
  STRATA_ASSIGN_OR_RETURN(std::vector<std::byte> found, ReadBack(0, bytes_.size()));
  auto differs = std::ranges::mismatch(found, bytes_).in1;
  if (differs == found.end()) return OkStatus();
  return DataLoss(fmt::format("{} is wrong at byte {}", path_, differs - found.begin()));
}

}  // namespace strata::aio
