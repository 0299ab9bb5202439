// A queue of the kernel for transfers between memory and files: io_uring, libaio, or a test's fake.
//
// Transfers are prepared under a tag of the caller's choice, handed over in batches, and come back
// in any order as that tag and what the kernel says: the bytes moved, or a negative errno.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "aio/base/status.h"
#include "aio/internal/io_request.h"

namespace strata::aio {

struct KernelCompletion {
  uint64_t tag = 0;
  int64_t result = 0;
};

// Belongs to the thread that calls BindToThread(), but for Wake(). Whoever owns it lets nothing be
// in the kernel when it ends.
class KernelQueue {
 public:
  // The tag of the wake-up. Transfers have the tags 0 to depth - 1, each at most once at a time.
  static constexpr uint64_t kWakeTag = UINT64_MAX;

  virtual ~KernelQueue() = default;
  virtual void BindToThread() = 0;

  virtual void Prepare(const IoTransfer& transfer, uint64_t tag) = 0;
  // kWakeTag completes after Wake() was called, also when that was before. At most one at a time.
  virtual void PrepareWake() = 0;

  // Hands over what is prepared, and then waits until `wait_for` completions are there. Returns 0
  // or a negative errno: after -EINTR, -EAGAIN and -EBUSY what the kernel has not taken is still
  // prepared, and goes with the next call. Does not wait while something is left like that.
  virtual int SubmitAndWait(uint32_t wait_for) = 0;

  // Takes back what is prepared and the kernel has not taken, as if it had never been prepared.
  virtual std::vector<uint64_t> TakeBack() = 0;

  // What has been completed, as much as fits. Never blocks.
  virtual size_t Reap(std::span<KernelCompletion> completions) = 0;

  // Nothing but the wake-up is in the kernel, and the thread has nothing to do.
  virtual void OnIdle() {}

  // Any thread; never blocks.
  virtual void Wake() = 0;

  // What the kernel offered and what was worked around.
  virtual const std::vector<std::string>& notes() const = 0;
};

// One queue for each thread of an engine.
using KernelQueueFactory = std::function<Result<std::unique_ptr<KernelQueue>>()>;

}  // namespace strata::aio
