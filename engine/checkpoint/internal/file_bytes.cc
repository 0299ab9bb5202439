#include "engine/checkpoint/internal/file_bytes.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>

namespace strata::engine {
namespace {

std::string Where(std::string_view verb, const aio::File& file, uint64_t offset_bytes,
                  size_t length_bytes) {
  return fmt::format("{} {} offset_bytes={} length_bytes={}", verb, file.path(), offset_bytes,
                     length_bytes);
}

}  // namespace

Status ReadFully(const aio::File& file, uint64_t offset_bytes, std::span<std::byte> into) {
  while (!into.empty()) {
    ssize_t count = pread(file.fd(), into.data(), into.size(), static_cast<off_t>(offset_bytes));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return ErrnoStatus(errno, Where("read", file, offset_bytes, into.size()));
    if (count == 0)
      return DataLoss(Where("read", file, offset_bytes, into.size()) +
                      ": the file has become shorter since it was opened");
    offset_bytes += static_cast<uint64_t>(count);
    into = into.subspan(static_cast<size_t>(count));
  }
  return OkStatus();
}

Status WriteFully(const aio::File& file, uint64_t offset_bytes, std::span<const std::byte> from) {
  while (!from.empty()) {
    ssize_t count = pwrite(file.fd(), from.data(), from.size(), static_cast<off_t>(offset_bytes));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return ErrnoStatus(errno, Where("write", file, offset_bytes, from.size()));
    offset_bytes += static_cast<uint64_t>(count);
    from = from.subspan(static_cast<size_t>(count));
  }
  return OkStatus();
}

}  // namespace strata::engine
