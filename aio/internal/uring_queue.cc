#include "aio/internal/uring_queue.h"

#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <optional>
#include <tuple>

#include "aio/base/check.h"
#include "aio/internal/polled_uring_queue.h"

namespace strata::aio {
namespace {

void PrepareTransfer(io_uring_sqe* entry, const IoTransfer& transfer, const MemoryChunks& chunks) {
  unsigned length = static_cast<unsigned>(transfer.length_bytes);
  auto [fd, offset, memory] = std::tuple(transfer.fd, transfer.offset_bytes, transfer.memory);
  bool is_read = transfer.direction == IoDirection::kRead;
  if (std::optional<uint32_t> chunk = chunks.IndexOf(memory)) {
    int index = static_cast<int>(*chunk);
    is_read ? io_uring_prep_read_fixed(entry, fd, memory, length, offset, index)
            : io_uring_prep_write_fixed(entry, fd, memory, length, offset, index);
  } else {
    is_read ? io_uring_prep_read(entry, fd, memory, length, offset)
            : io_uring_prep_write(entry, fd, memory, length, offset);
  }
  if (transfer.durable) entry->rw_flags = RWF_DSYNC;
}

}  // namespace

Result<std::unique_ptr<KernelQueue>> UringQueue::Create(const IoEngineOptions& options) {
  STRATA_ASSIGN_OR_RETURN(std::unique_ptr<Uring> ring, Uring::Create(options));
  STRATA_ASSIGN_OR_RETURN(std::unique_ptr<WakeFd> wake, WakeFd::Create());
  if (options.iopoll) {
    return std::unique_ptr<KernelQueue>(
        new PolledUringQueue(options, std::move(ring), std::move(wake)));
  }
  return std::unique_ptr<KernelQueue>(new UringQueue(options, std::move(ring), std::move(wake)));
}

UringQueue::UringQueue(const IoEngineOptions& options, std::unique_ptr<Uring> ring,
                       std::unique_ptr<WakeFd> wake)
    : is_sqpoll_(options.sqpoll),
      ring_(std::move(ring)),
      wake_(std::move(wake)),
      notes_(ring_->notes()) {
  if (!options.registered_files) return;
  files_ = RegisteredFiles::Create(*ring_->get());
  if (!files_) notes_.push_back("no registered files (needs Linux 5.19)");
}

io_uring_sqe* UringQueue::NextEntry() {
  io_uring_sqe* entry = io_uring_get_sqe(ring_->get());
  STRATA_CHECK(entry != nullptr);
  return entry;
}

void UringQueue::Prepare(const IoTransfer& transfer, uint64_t tag) {
  io_uring_sqe* entry = NextEntry();
  PrepareTransfer(entry, transfer, ring_->registered());
  if (files_) UseRegisteredFile(entry, transfer);
  io_uring_sqe_set_data64(entry, tag);
}

void UringQueue::UseRegisteredFile(io_uring_sqe* entry, const IoTransfer& transfer) {
  std::optional<int> index = files_->IndexOf(*transfer.file, transfer.fd);
  if (!index) return;
  entry->fd = *index;
  entry->flags |= IOSQE_FIXED_FILE;
}

void UringQueue::OnIdle() {
  if (files_) files_->LetGo();
}

void UringQueue::PrepareWake() {
  io_uring_sqe* entry = NextEntry();
  io_uring_prep_read(entry, wake_->fd(), &wake_value_, sizeof(wake_value_), 0);
  io_uring_sqe_set_data64(entry, kWakeTag);
}

// The kernel does not wait when it took less than there was. With sqpoll the completions may be
// here without any system call.
int UringQueue::SubmitAndWait(uint32_t wait_for) {
  if (is_sqpoll_ && io_uring_cq_ready(ring_->get()) >= wait_for) wait_for = 0;
  return std::min(io_uring_submit_and_wait(ring_->get(), wait_for), 0);
}

// The kernel looks at the tail only inside the system call, which this thread makes; with sqpoll at
// any time, but then it takes everything in the end.
std::vector<uint64_t> UringQueue::TakeBack() {
  std::vector<uint64_t> tags;
  if (is_sqpoll_) return tags;
  io_uring_sq& submissions = ring_->get()->sq;
  unsigned head = *submissions.khead;
  for (unsigned at = head; at != submissions.sqe_tail; ++at)
    tags.push_back(submissions.sqes[at & submissions.ring_mask].user_data);
  submissions.sqe_head = submissions.sqe_tail = head;
  *submissions.ktail = head;
  return tags;
}

size_t UringQueue::Reap(std::span<KernelCompletion> completions) {
  std::array<io_uring_cqe*, 64> entries;
  unsigned room = static_cast<unsigned>(std::min(completions.size(), entries.size()));
  unsigned count = io_uring_peek_batch_cqe(ring_->get(), entries.data(), room);
  for (unsigned i = 0; i < count; ++i)
    completions[i] = {io_uring_cqe_get_data64(entries[i]), entries[i]->res};
  io_uring_cq_advance(ring_->get(), count);
  return count;
}

}  // namespace strata::aio
