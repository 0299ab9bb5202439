// All of a range of a file's bytes, through the page cache.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "aio/base/status.h"
#include "aio/file.h"

namespace strata::engine {

// Short transfers are resumed. Errors name file, offset and length; the end of the file inside the
// range is kDataLoss. The file is not open for direct I/O.
Status ReadFully(const aio::File& file, uint64_t offset_bytes, std::span<std::byte> into);
Status WriteFully(const aio::File& file, uint64_t offset_bytes, std::span<const std::byte> from);

}  // namespace strata::engine
