#include "aio/internal/ring_worker.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>

#include "aio/base/check.h"
#include "aio/base/log.h"
#include "aio/internal/engine_thread.h"
#include "aio/internal/retry.h"

namespace strata::aio {
namespace {

constexpr uint64_t kWakeTag = UINT64_MAX;  // the others are slots

void PrepareTransfer(io_uring_sqe* entry, const IoTransfer& transfer, const MemoryChunks& chunks) {
  auto [direction, fd, offset, memory, length_bytes] = transfer;
  unsigned length = static_cast<unsigned>(length_bytes);
  bool is_read = direction == IoDirection::kRead;
  if (std::optional<uint32_t> chunk = chunks.IndexOf(memory)) {
    int index = static_cast<int>(*chunk);
    is_read ? io_uring_prep_read_fixed(entry, fd, memory, length, offset, index)
            : io_uring_prep_write_fixed(entry, fd, memory, length, offset, index);
    return;
  }
  is_read ? io_uring_prep_read(entry, fd, memory, length, offset)
          : io_uring_prep_write(entry, fd, memory, length, offset);
}

}  // namespace

Result<std::unique_ptr<RingWorker>> RingWorker::Create(uint32_t index,
                                                       const IoEngineOptions& options,
                                                       RingFeed& feed, RequestEngine& engine) {
  std::unique_ptr<RingWorker> worker(new RingWorker(index, options, feed, engine));
  STRATA_RETURN_IF_ERROR(worker->Init());
  return worker;
}

Status RingWorker::Init() {
  uint32_t depth = options_.queue_depth;
  STRATA_ASSIGN_OR_RETURN(ring_,
                          Uring::Create(depth + 1, MemoryChunks(options_.registered_memory)));
  wake_fd_ = eventfd(0, EFD_CLOEXEC);
  if (wake_fd_ < 0) return ErrnoStatus(errno, "eventfd for an I/O thread");
  slots_.resize(depth);
  for (uint32_t slot = depth; slot > 0; --slot) free_slots_.push_back(slot - 1);
  STRATA_ASSIGN_OR_RETURN(thread_, StartEngineThread([this] { Run(); }));
  return OkStatus();
}

RingWorker::~RingWorker() {
  if (thread_.joinable()) thread_.join();
  if (wake_fd_ >= 0) STRATA_CHECK(close(wake_fd_) == 0);
}

void RingWorker::Wake() {
  uint64_t one = 1;
  ssize_t written = RetryOnEintr([&] { return write(wake_fd_, &one, sizeof(one)); });
  STRATA_CHECK(written == sizeof(one));
}

void RingWorker::Run() {
  ring_->EnableHere();
  while (true) {
    Fill();
    if (!stopping_ && !wake_armed_) ArmWake();
    bool idle = free_slots_.size() == slots_.size();
    if (stopping_ && idle && !wake_armed_) return;
    Submit(CompletionsToWaitFor());
    Reap();
  }
}

// With overlap_events off, a wave is filled up once and then left to end.
void RingWorker::Fill() {
  bool wave_is_over = free_slots_.size() == slots_.size();
  if (!options_.overlap_events && !wave_is_over && !more_) return;
  RingFeed::Portion portion = feed_.Take(index_, free_slots_.size());
  more_ = portion.more;
  stopping_ = portion.stopping;
  for (IoPiece& piece : portion.pieces) {
    uint32_t slot = free_slots_.back();
    free_slots_.pop_back();
    slots_[slot].emplace(std::move(piece));
    engine_.CountPiece();
    Prepare(slot);
  }
}

void RingWorker::ArmWake() {
  io_uring_sqe* entry = io_uring_get_sqe(ring_->get());
  STRATA_CHECK(entry != nullptr);
  io_uring_prep_read(entry, wake_fd_, &wake_value_, sizeof(wake_value_), 0);
  io_uring_sqe_set_data64(entry, kWakeTag);
  wake_armed_ = true;
}

void RingWorker::Prepare(uint32_t slot) {
  // The ring has an entry for every slot and one for the wake-up.
  io_uring_sqe* entry = io_uring_get_sqe(ring_->get());
  STRATA_CHECK(entry != nullptr);
  PrepareTransfer(entry, slots_[slot]->transfer(), ring_->registered());
  io_uring_sqe_set_data64(entry, slot);
  if (options_.single_submit) Submit(0);
}

uint32_t RingWorker::CompletionsToWaitFor() const {
  if (more_) return 0;
  size_t in_flight = slots_.size() - free_slots_.size();
  return options_.overlap_events ? 1 : static_cast<uint32_t>(std::max<size_t>(in_flight, 1));
}

void RingWorker::Submit(uint32_t wait_for) {
  int result = io_uring_submit_and_wait(ring_->get(), wait_for);
  if (result >= 0 || result == -EINTR) return;
  // The kernel is short of memory for the moment; what was not submitted is so by the next call.
  if (result == -EAGAIN || result == -EBUSY) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return;
  }
  Log(Severity::kError, "aio", "{}", ErrnoStatus(-result, "io_uring_enter").message());
  STRATA_CHECK(!"io_uring_enter refuses a ring that it accepted before");
}

void RingWorker::Reap() {
  std::array<io_uring_cqe*, 64> completions;
  while (unsigned count =
             io_uring_peek_batch_cqe(ring_->get(), completions.data(), completions.size())) {
    for (unsigned i = 0; i < count; ++i) {
      uint64_t tag = io_uring_cqe_get_data64(completions[i]);
      int result = completions[i]->res;
      tag == kWakeTag ? OnWoken(result) : OnCompleted(static_cast<uint32_t>(tag), result);
    }
    io_uring_cq_advance(ring_->get(), count);
  }
}

void RingWorker::OnWoken(int result) {
  STRATA_CHECK(result == sizeof(wake_value_) || result == -EINTR || result == -EAGAIN);
  wake_armed_ = false;
}

void RingWorker::OnCompleted(uint32_t slot, int result) {
  if (engine_.OnResult(*slots_[slot], result) == IoPiece::Next::kRepeat) return Prepare(slot);
  slots_[slot].reset();
  free_slots_.push_back(slot);
}

}  // namespace strata::aio
