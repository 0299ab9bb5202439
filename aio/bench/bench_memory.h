// The memory that measurements move.
#pragma once

#include <cstdint>
#include <span>

#include "aio/base/status.h"
#include "aio/io_buffer.h"

namespace strata::aio {

// On huge pages where they are to be had, filled with data that no drive can compress.
Result<HugeMemory> MakeBenchMemory(uint64_t size_bytes);

// How much of it lies on huge pages, as the kernel tells; 0 where it does not.
uint64_t HugePageBytes(std::span<const std::byte> memory);

}  // namespace strata::aio
