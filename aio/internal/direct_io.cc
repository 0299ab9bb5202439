#include "aio/internal/direct_io.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <cstring>
#include <optional>

namespace strata::aio {
namespace {

constexpr uint64_t kUntoldAlignmentBytes = 4096;

// statx tells since kernel 6.1; headers older than that lack the names, the layout is fixed.
std::optional<DirectIoAlignment> AskStatx(int fd) {
  constexpr unsigned kStatxDioAlign = 0x2000;
  constexpr size_t kMemoryAlignAt = 0x98, kOffsetAlignAt = 0x9c;
  struct statx answer = {};
  static_assert(sizeof(answer) == 256);
  if (statx(fd, "", AT_EMPTY_PATH, kStatxDioAlign, &answer) != 0) return std::nullopt;
  if ((answer.stx_mask & kStatxDioAlign) == 0) return std::nullopt;
  uint32_t memory_bytes, offset_bytes;
  const char* bytes = reinterpret_cast<const char*>(&answer);
  std::memcpy(&memory_bytes, bytes + kMemoryAlignAt, sizeof(memory_bytes));
  std::memcpy(&offset_bytes, bytes + kOffsetAlignAt, sizeof(offset_bytes));
  return DirectIoAlignment{.offset_bytes = offset_bytes, .memory_bytes = memory_bytes};
}

}  // namespace

DirectIoAlignment AskDirectIoAlignment(int fd) {
  if (std::optional<DirectIoAlignment> told = AskStatx(fd)) return *told;
  int block_bytes = 0;  // the call fails for what is not a block device
  if (ioctl(fd, BLKSSZGET, &block_bytes) == 0 && block_bytes > 0) {
    uint64_t bytes = static_cast<uint64_t>(block_bytes);
    return {.offset_bytes = bytes, .memory_bytes = bytes};
  }
  return {.offset_bytes = kUntoldAlignmentBytes, .memory_bytes = kUntoldAlignmentBytes};
}

}  // namespace strata::aio
