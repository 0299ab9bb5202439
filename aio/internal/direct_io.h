// What the kernel says of a file's direct I/O.
#pragma once

#include <cstdint>

namespace strata::aio {

struct DirectIoAlignment {
  uint64_t offset_bytes = 0;
  uint64_t memory_bytes = 0;  // 0: the file has no direct I/O
};

// From statx(STATX_DIOALIGN); where that does not tell, the logical block of a block device, or
// 4096, more than which no drive asks for.
DirectIoAlignment AskDirectIoAlignment(int fd);

}  // namespace strata::aio
