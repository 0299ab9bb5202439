#include "aio/internal/queue_worker.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>

#include "aio/base/check.h"
#include "aio/base/log.h"
#include "aio/base/units.h"
#include "aio/internal/engine_thread.h"

namespace strata::aio {
namespace {

Status CannotBePolled(const std::string& what) {
  return Unavailable(
      what +
      ": this cannot be polled for completions: set [aio] iopoll = false, or give the drive poll "
      "queues (/sys/block/*/queue/io_poll is 1 then; for NVMe boot with nvme.poll_queues=4); "
      "what goes through the page cache can never be polled");
}

// How many transfers are handed over in one call. Of more than two the kernel merges those that are
// neighbours on the drive: good for small ones, but large ones lose the queue depth that was asked
// for (docs/decisions/0009).
uint32_t BatchOf(const IoEngineOptions& options) {
  constexpr uint64_t kLargeBytes = 128_KiB;
  if (options.single_submit) return 1;
  return options.block_size_bytes >= kLargeBytes ? 2 : UINT32_MAX;
}

}  // namespace

Result<std::unique_ptr<QueueWorker>> QueueWorker::Create(
    uint32_t index, const IoEngineOptions& options, const QueueTiming& timing,
    std::unique_ptr<KernelQueue> queue, QueueFeed& feed, RequestEngine& engine, Drain& drain) {
  std::unique_ptr<QueueWorker> worker(
      new QueueWorker(index, options, timing, std::move(queue), feed, engine, drain));
  STRATA_ASSIGN_OR_RETURN(worker->thread_, StartEngineThread([self = worker.get()] {
                            self->Run();
                            self->drain_.ThreadEnds();
                          }));
  return worker;
}

QueueWorker::QueueWorker(uint32_t index, const IoEngineOptions& options, const QueueTiming& timing,
                         std::unique_ptr<KernelQueue> queue, QueueFeed& feed, RequestEngine& engine,
                         Drain& drain)
    : index_(index),
      options_(options),
      timing_(timing),
      queue_(std::move(queue)),
      feed_(feed),
      engine_(engine),
      drain_(drain),
      batch_(BatchOf(options)),
      slots_(options.queue_depth) {
  for (uint32_t slot = options.queue_depth; slot > 0; --slot) free_slots_.push_back(slot - 1);
}

QueueWorker::~QueueWorker() {
  if (thread_.joinable()) thread_.join();
}

void QueueWorker::Run() {
  queue_->BindToThread();
  while (true) {
    Fill();
    if (!stopping_ && !wake_armed_) ArmWake();
    bool idle = free_slots_.size() == slots_.size();
    if (stopping_ && idle) {
      if (!wake_armed_) return;
      // The engine's last signal may have been taken together with an earlier one.
      queue_->Wake();
    }
    if (idle && !more_) queue_->OnIdle();
    Submit(CompletionsToWaitFor());
    Reap();
  }
}

// With overlap_events off, a wave is filled up once and then left to end.
void QueueWorker::Fill() {
  bool wave_is_over = free_slots_.size() == slots_.size();
  if (!options_.overlap_events && !wave_is_over && !more_) return;
  QueueFeed::Portion portion = feed_.Take(index_, free_slots_.size());
  more_ = portion.more;
  stopping_ = portion.stopping;
  for (IoPiece& piece : portion.pieces) {
    if (engine_.Admit(piece)) {
      Start(std::move(piece));
    } else {
      more_ = true;  // there was room for others instead: the feed takes this queue for full
    }
  }
}

void QueueWorker::Start(IoPiece piece) {
  uint32_t slot = free_slots_.back();
  free_slots_.pop_back();
  {
    std::lock_guard lock(slots_mutex_);
    slots_[slot].emplace(std::move(piece));
  }
  Prepare(slot);
  // What is not taken now goes with the rest.
  if (++num_prepared_ >= batch_) static_cast<void>(TrySubmit(0));
}

void QueueWorker::ArmWake() {
  queue_->PrepareWake();
  wake_armed_ = true;
}

void QueueWorker::Prepare(uint32_t slot) { queue_->Prepare(slots_[slot]->transfer(), slot); }

uint32_t QueueWorker::CompletionsToWaitFor() const {
  if (more_) return 0;
  size_t in_flight = slots_.size() - free_slots_.size();
  return options_.overlap_events ? 1 : static_cast<uint32_t>(std::max<size_t>(in_flight, 1));
}

void QueueWorker::Submit(uint32_t wait_for) {
  if (TrySubmit(wait_for) == Taken::kNotAll) return PauseAndTakeBack();
  num_pauses_ = 0;
}

QueueWorker::Taken QueueWorker::TrySubmit(uint32_t wait_for) {
  num_prepared_ = 0;
  int result = queue_->SubmitAndWait(wait_for);
  if (result == -EAGAIN || result == -EBUSY) return Taken::kNotAll;  // short of memory
  if (result == 0 || result == -EINTR) return Taken::kAll;
  Log(Severity::kError, "aio", "{}", ErrnoStatus(-result, "submit I/O").message());
  STRATA_CHECK(!"the kernel refuses a queue that it accepted before");
  return Taken::kNotAll;
}

// What is in the kernel gives memory back when it is over. Only when nothing is does a refusal
// count against those that were refused, which then fail in the end.
void QueueWorker::PauseAndTakeBack() {
  std::this_thread::sleep_for(++num_pauses_ * timing_.pause_step);
  std::vector<uint64_t> refused = queue_->TakeBack();
  std::lock_guard lock(slots_mutex_);
  if (std::erase(refused, KernelQueue::kWakeTag) > 0) wake_armed_ = false;
  bool some_are_in_kernel = refused.size() < slots_.size() - free_slots_.size();
  for (uint64_t tag : refused) {
    uint32_t slot = static_cast<uint32_t>(tag);
    some_are_in_kernel ? Prepare(slot) : OnCompleted(slot, -EAGAIN);
  }
}

void QueueWorker::DescribeOutstanding(std::vector<std::string>& descriptions) {
  std::lock_guard lock(slots_mutex_);
  for (const std::optional<IoPiece>& piece : slots_) {
    if (piece) descriptions.push_back(piece->What());
  }
}

void QueueWorker::Reap() {
  std::array<KernelCompletion, 64> completions;
  while (size_t count = queue_->Reap(completions)) {
    std::lock_guard lock(slots_mutex_);
    for (auto [tag, result] : std::span(completions).first(count)) {
      tag == KernelQueue::kWakeTag ? OnWoken(result)
                                   : OnCompleted(static_cast<uint32_t>(tag), result);
    }
  }
}

void QueueWorker::OnWoken(int64_t result) {
  STRATA_CHECK(result >= 0 || result == -EINTR || result == -EAGAIN);
  wake_armed_ = false;
}

void QueueWorker::OnCompleted(uint32_t slot, int64_t result) {
  if (options_.iopoll && result == -EOPNOTSUPP) {
    IoRequest& request = slots_[slot]->request();
    request.Finish(CannotBePolled(slots_[slot]->What()));
  } else if (engine_.OnResult(*slots_[slot], result) == IoPiece::Next::kRepeat) {
    return Prepare(slot);
  }
  slots_[slot].reset();
  free_slots_.push_back(slot);
}

}  // namespace strata::aio
