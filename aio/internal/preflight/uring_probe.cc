#include <liburing.h>

#include <array>
#include <cstddef>

#include "aio/internal/preflight/uring.h"

namespace strata::aio {
namespace {

struct Feature {
  const char* name;
  unsigned flags;
};

constexpr std::array<Feature, 4> kFeatures = {{
    {"DEFER_TASKRUN", IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN},
    {"COOP_TASKRUN", IORING_SETUP_COOP_TASKRUN},
    {"SQPOLL", IORING_SETUP_SQPOLL},
    {"IOPOLL", IORING_SETUP_IOPOLL},
}};

// Returns an errno.
int TrySetup(unsigned flags) {
  io_uring ring;
  int result = io_uring_queue_init(4, &ring, flags);
  if (result < 0) return -result;
  io_uring_queue_exit(&ring);
  return 0;
}

int TryRegister() {
  io_uring ring;
  int result = io_uring_queue_init(4, &ring, 0);
  if (result < 0) return -result;
  alignas(4096) static std::array<std::byte, 4096> memory;
  iovec vector = {memory.data(), memory.size()};
  result = io_uring_register_buffers(&ring, &vector, 1);
  io_uring_queue_exit(&ring);
  return result < 0 ? -result : 0;
}

}  // namespace

UringAnswer AskUring() {
  UringAnswer answer;
  answer.error_number = TrySetup(0);
  if (answer.error_number != 0) return answer;
  for (const Feature& feature : kFeatures) {
    (TrySetup(feature.flags) == 0 ? answer.features : answer.missing).push_back(feature.name);
  }
  answer.register_error_number = TryRegister();
  return answer;
}

}  // namespace strata::aio
