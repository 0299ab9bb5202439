#include "aio/internal/posix_engine.h"

#include <fmt/format.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "aio/internal/engine_thread.h"

namespace strata::aio {

int64_t TransferBySystemCall(const IoTransfer& transfer) {
  off_t offset = static_cast<off_t>(transfer.offset_bytes);
  iovec memory = {transfer.memory, transfer.length_bytes};
  ssize_t moved = transfer.direction == IoDirection::kRead
                      ? pread(transfer.fd, transfer.memory, transfer.length_bytes, offset)
                      : pwritev2(transfer.fd, &memory, 1, offset, transfer.durable ? RWF_DSYNC : 0);
  return moved < 0 ? -errno : moved;
}

Result<std::unique_ptr<RequestEngine>> PosixEngine::Create(
    const IoEngineOptions& options, TransferFunction transfer,
    std::chrono::milliseconds drain_report_every) {
  std::unique_ptr<PosixEngine> engine(
      new PosixEngine(options, std::move(transfer), drain_report_every));
  STRATA_RETURN_IF_ERROR(engine->StartWorkers());
  return std::unique_ptr<RequestEngine>(std::move(engine));
}

PosixEngine::PosixEngine(const IoEngineOptions& options, TransferFunction transfer,
                         std::chrono::milliseconds drain_report_every)
    : RequestEngine(options),
      transfer_(std::move(transfer)),
      queue_(options.block_size_bytes),
      drain_(drain_report_every) {}

Status PosixEngine::StartWorkers() {
  uint64_t wanted = uint64_t{options().thread_count} * options().queue_depth;
  uint64_t num_workers = std::min<uint64_t>(wanted, kMaxWorkers);
  working_on_.resize(num_workers, nullptr);
  for (uint64_t i = 0; i < num_workers; ++i) {
    STRATA_ASSIGN_OR_RETURN(std::jthread worker, StartEngineThread([this, i] { Work(i); }));
    workers_.push_back(std::move(worker));
  }
  TakeNote(fmt::format("{} worker threads", workers_.size()));
  TakeNote("single_submit and overlap_events change nothing: every piece is a call of its own");
  return OkStatus();
}

PosixEngine::~PosixEngine() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  has_work_.notify_all();
  drain_.Wait(workers_.size(), [this] { return Outstanding(); });
  workers_.clear();  // joins
}

void PosixEngine::Enqueue(std::shared_ptr<IoRequest> request) {
  bool several = request->length_bytes() > options().block_size_bytes;
  {
    std::lock_guard lock(mutex_);
    queue_.Push(std::move(request));
  }
  several ? has_work_.notify_all() : has_work_.notify_one();
}

void PosixEngine::Work(size_t worker) {
  std::optional<IoPiece> piece;
  while (WaitForPiece(worker, piece)) {
    if (!Admit(*piece)) continue;
    while (OnResult(*piece, transfer_(piece->transfer())) == IoPiece::Next::kRepeat) {
    }
  }
  drain_.ThreadEnds();
}

bool PosixEngine::WaitForPiece(size_t worker, std::optional<IoPiece>& piece) {
  std::optional<IoPiece> last;  // let go of after the lock: it may be the last to hold its request
  std::unique_lock lock(mutex_);
  working_on_[worker] = nullptr;
  last = std::exchange(piece, std::nullopt);
  has_work_.wait(lock, [&] { return (piece = queue_.Take()) || stopping_; });
  if (piece) working_on_[worker] = &*piece;
  return piece.has_value();
}

std::vector<std::string> PosixEngine::Outstanding() {
  std::lock_guard lock(mutex_);
  std::vector<std::string> outstanding;
  for (const IoPiece* piece : working_on_) {
    if (piece != nullptr) outstanding.push_back(piece->What());
  }
  return outstanding;
}

}  // namespace strata::aio
