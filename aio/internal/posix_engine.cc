#include "aio/internal/posix_engine.h"

#include <fmt/format.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

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

Result<std::unique_ptr<RequestEngine>> PosixEngine::Create(const IoEngineOptions& options,
                                                           TransferFunction transfer) {
  std::unique_ptr<PosixEngine> engine(new PosixEngine(options, std::move(transfer)));
  STRATA_RETURN_IF_ERROR(engine->StartWorkers());
  return std::unique_ptr<RequestEngine>(std::move(engine));
}

PosixEngine::PosixEngine(const IoEngineOptions& options, TransferFunction transfer)
    : RequestEngine(options), transfer_(std::move(transfer)), queue_(options.block_size_bytes) {}

Status PosixEngine::StartWorkers() {
  uint64_t wanted = uint64_t{options().thread_count} * options().queue_depth;
  uint64_t num_workers = std::min<uint64_t>(wanted, kMaxWorkers);
  for (uint64_t i = 0; i < num_workers; ++i) {
    STRATA_ASSIGN_OR_RETURN(std::jthread worker, StartEngineThread([this] { Work(); }));
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

void PosixEngine::Work() {
  while (std::optional<IoPiece> piece = WaitForPiece()) {
    if (!Admit(*piece)) continue;
    while (OnResult(*piece, transfer_(piece->transfer())) == IoPiece::Next::kRepeat) {
    }
  }
}

std::optional<IoPiece> PosixEngine::WaitForPiece() {
  std::unique_lock lock(mutex_);
  std::optional<IoPiece> piece;
  has_work_.wait(lock, [&] { return (piece = queue_.Take()) || stopping_; });
  return piece;
}

}  // namespace strata::aio
