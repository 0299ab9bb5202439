#include "aio/internal/libaio_queue.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>

#include "aio/base/check.h"
#include "aio/file.h"

namespace strata::aio {
namespace {

std::string SystemSetting(const std::string& name) {
  Result<std::string> text = ReadSmallFile("/proc/sys/fs/" + name, 64);
  return text.ok() ? text->substr(0, text->find('\n')) : "unknown";
}

Status Refused(int error_number, const std::string& call) {
  return Unavailable(ErrnoStatus(error_number, call).message() +
                     ": let this process use Linux AIO (Linux "
                     "4.19 or newer with CONFIG_AIO, a container's seccomp profile)");
}

Status LimitReached(const std::string& call) {
  return Unavailable(fmt::format(
      "{}: the system's limit on asynchronous I/O is reached: fs.aio-nr = {} of fs.aio-max-nr = "
      "{}: raise it (sysctl -w fs.aio-max-nr=1048576), or lower [aio] queue_depth or thread_count",
      ErrnoStatus(EAGAIN, call).message(), SystemSetting("aio-nr"), SystemSetting("aio-max-nr")));
}

// The second result is for devices that have more to say; there it means failure.
int64_t ResultOf(const io_event& event) {
  int64_t result = static_cast<int64_t>(event.res), second = static_cast<int64_t>(event.res2);
  if (result < 0 || second == 0) return result;
  return second < 0 ? second : -EIO;
}

uint64_t TagOf(const iocb& block) { return reinterpret_cast<uint64_t>(block.data); }

}  // namespace

Result<std::unique_ptr<KernelQueue>> LibaioQueue::Create(const IoEngineOptions& options) {
  STRATA_ASSIGN_OR_RETURN(std::unique_ptr<WakeFd> wake, WakeFd::Create());
  std::unique_ptr<LibaioQueue> queue(new LibaioQueue(options.queue_depth, std::move(wake)));
  STRATA_RETURN_IF_ERROR(queue->SetUp());
  STRATA_RETURN_IF_ERROR(queue->CheckWaking());
  return std::unique_ptr<KernelQueue>(std::move(queue));
}

LibaioQueue::LibaioQueue(uint32_t depth, std::unique_ptr<WakeFd> wake)
    : depth_(depth), wake_(std::move(wake)), blocks_(depth + 1), events_(depth + 1) {}

Status LibaioQueue::SetUp() {
  int result = io_setup(static_cast<int>(blocks_.size()), &context_);
  if (result == 0) return OkStatus();
  std::string call = fmt::format("io_setup({})", blocks_.size());
  return result == -EAGAIN ? LimitReached(call) : Refused(-result, call);
}

// Wakes itself once: older kernels refuse to poll.
Status LibaioQueue::CheckWaking() {
  wake_->Signal();
  PrepareWake();
  int result = SubmitAndWait(1);
  KernelCompletion completion;
  size_t count = result == 0 ? Reap({&completion, 1}) : 0;
  if (count == 1 && completion.result >= 0) return OkStatus();
  return Refused(static_cast<int>(count == 1 ? -completion.result : -result),
                 "io_submit(IOCB_CMD_POLL)");
}

LibaioQueue::~LibaioQueue() {
  if (context_ != nullptr) STRATA_CHECK(io_destroy(context_) == 0);
}

iocb& LibaioQueue::ControlBlock(uint64_t tag) {
  STRATA_CHECK(tag == kWakeTag || tag < depth_);
  return blocks_[std::min<uint64_t>(tag, depth_)];
}

void LibaioQueue::Prepare(const IoTransfer& transfer, uint64_t tag) {
  iocb& block = ControlBlock(tag);
  auto* prepare = transfer.direction == IoDirection::kRead ? io_prep_pread : io_prep_pwrite;
  prepare(&block, transfer.fd, transfer.memory, transfer.length_bytes,
          static_cast<long long>(transfer.offset_bytes));
  if (transfer.durable) block.aio_rw_flags = RWF_DSYNC;
  block.data = reinterpret_cast<void*>(tag);
  prepared_.push_back(&block);
}

void LibaioQueue::PrepareWake() {
  iocb& block = ControlBlock(kWakeTag);
  io_prep_poll(&block, wake_->fd(), POLLIN);
  block.data = reinterpret_cast<void*>(kWakeTag);
  prepared_.push_back(&block);
}

int LibaioQueue::SubmitAndWait(uint32_t wait_for) {
  int result = Submit();
  return result == 0 && wait_for > 0 ? Wait(wait_for) : result;
}

// io_submit stops at the first transfer it does not take: it says why only when that is the first
// of a call.
int LibaioQueue::Submit() {
  int stopped_by = 0;
  auto next = prepared_.begin();
  while (next != prepared_.end() && stopped_by == 0) {
    int result = io_submit(context_, prepared_.end() - next, &*next);
    if (result > 0) {
      next += result;
    } else if (result == 0 || result == -EAGAIN || result == -EINTR) {
      stopped_by = result == 0 ? -EAGAIN : result;
    } else {
      refused_.push_back({TagOf(**next++), result});
    }
  }
  prepared_.erase(prepared_.begin(), next);
  return stopped_by;
}

int LibaioQueue::Wait(uint32_t wait_for) {
  if (!refused_.empty() || !unread_.empty()) return 0;
  long capacity = static_cast<long>(events_.size());
  int result =
      io_getevents(context_, std::min<long>(wait_for, capacity), capacity, events_.data(), nullptr);
  if (result < 0) return result;
  unread_ = std::span(events_).first(static_cast<size_t>(result));
  return 0;
}

std::vector<uint64_t> LibaioQueue::TakeBack() {
  std::vector<uint64_t> tags;
  for (const iocb* block : prepared_) tags.push_back(TagOf(*block));
  prepared_.clear();
  return tags;
}

size_t LibaioQueue::Reap(std::span<KernelCompletion> completions) {
  size_t count = ReapRefused(completions);
  if (unread_.empty()) {
    timespec at_once = {};
    int result =
        io_getevents(context_, 0, static_cast<long>(events_.size()), events_.data(), &at_once);
    unread_ = std::span(events_).first(static_cast<size_t>(std::max(result, 0)));
  }
  while (count < completions.size() && !unread_.empty()) {
    completions[count++] = Judge(unread_.front());
    unread_ = unread_.subspan(1);
  }
  return count;
}

size_t LibaioQueue::ReapRefused(std::span<KernelCompletion> completions) {
  size_t count = std::min(refused_.size(), completions.size());
  std::copy_n(refused_.begin(), count, completions.begin());
  refused_.erase(refused_.begin(), refused_.begin() + static_cast<ptrdiff_t>(count));
  return count;
}

KernelCompletion LibaioQueue::Judge(const io_event& event) {
  KernelCompletion completion = {reinterpret_cast<uint64_t>(event.data), ResultOf(event)};
  if (completion.tag == kWakeTag && completion.result >= 0) wake_->Clear();
  return completion;
}

}  // namespace strata::aio
