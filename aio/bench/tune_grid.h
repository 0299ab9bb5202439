// The settings worth trying on a machine.
#pragma once

#include <cstdint>
#include <vector>

#include "aio/bench/aio_setting.h"
#include "aio/io_engine.h"

namespace strata::aio {

struct TuneMachine {
  uint32_t cores = 1;
  uint64_t in_flight_limit_bytes = 0;  // memory that may be lent to the kernel at a time
  std::vector<IoBackend> backends;     // those to try
  bool try_sqpoll = true;              // with io_uring; its kernel thread wants a core of its own
};

// Block sizes 128 KiB to 8 MiB and queue depths 1 to 64 in powers of two, 1 to min(cores, 4)
// threads, as far as they fit the memory. SQPOLL only with io_uring and two cores or more. At least
// one setting per backend, however small the limit.
std::vector<AioSetting> DefaultCandidates(const TuneMachine& machine);

}  // namespace strata::aio
