// Passes over a whole target: writing it once, checking it, and a glance at a path's speed.
#pragma once

#include <cstdint>

#include "aio/base/status.h"
#include "aio/bench/internal/target_content.h"
#include "aio/bench/stop.h"
#include "aio/file.h"
#include "aio/striped_file.h"

namespace strata::aio {

Status WriteOnce(const StripedFile& files, uint64_t size_bytes, TargetContent& content,
                 const BytesProgress& progress, const StopCheck& stop);

Status ReadAndCheck(const StripedFile& files, uint64_t size_bytes, const TargetContent& content,
                    const BytesProgress& progress, const StopCheck& stop);

// Reads the first `size_bytes` for a fraction of a second, again and again, all of them allocated
// and written.
Result<double> MeasureReadBytesPerSecond(const File& file, uint64_t size_bytes,
                                         const StopCheck& stop);
// Gives an empty file something to be read by that.
Status WriteSample(const File& file, uint64_t size_bytes, uint64_t seed, const StopCheck& stop);

}  // namespace strata::aio
