// One request and the pieces it is cut into: all that both backends share and that needs no
// kernel to be tested.
//
// A request is cut piece by piece, as the backend has room. Every piece is handed to the kernel
// until OnResult says that it is over, and is then given back with Finish. The request is done when
// nothing is left to cut, or one piece failed, and no piece is out.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "aio/base/status.h"
#include "aio/internal/memory_chunks.h"
#include "aio/io_engine.h"

namespace strata::aio {

enum class IoDirection { kRead, kWrite };

// What goes to the kernel in one call.
struct IoTransfer {
  IoDirection direction = IoDirection::kRead;
  int fd = -1;
  uint64_t offset_bytes = 0;
  std::byte* memory = nullptr;
  size_t length_bytes = 0;
};

// One part of a request on its way to the end. Thread-compatible.
class IoPiece {
 public:
  enum class Next { kFinish, kRepeat };

  // Transfers start at multiples of `alignment_bytes`, also after one that stopped short.
  IoPiece(std::shared_ptr<IoRequest> request, const IoTransfer& transfer, uint64_t alignment_bytes)
      : request_(std::move(request)), transfer_(transfer), alignment_bytes_(alignment_bytes) {}

  // What is still to be moved.
  const IoTransfer& transfer() const { return transfer_; }

  // What to do after the kernel returned `result`, the bytes moved or a negative errno: hand
  // transfer() to the kernel again, or finish.
  Next OnResult(int64_t result);

  // How the piece ended.
  const Status& status() const { return status_; }
  IoRequest& request() const { return *request_; }

 private:
  Next OnShortTransfer(uint64_t moved_bytes);
  Next RepeatOr(int error_number);
  Next Fail(int error_number);
  Next FailAtEndOfFile(uint64_t end_bytes);

  std::shared_ptr<IoRequest> request_;
  IoTransfer transfer_;
  uint64_t alignment_bytes_;
  uint64_t last_stop_bytes_ = UINT64_MAX;  // where the last transfer stopped that made no progress
  int repeats_ = 0;                        // in a row, without progress
  Status status_;
};

struct IoRequestOptions {
  IoTransfer transfer;
  std::string path;
  uint64_t alignment_bytes = 1;
  uint64_t block_size_bytes = 1 << 20;
  MemoryChunks chunks;  // no piece crosses a border of these
  IoDone done;
};

// Thread-safe. Lives while its ticket or one of its pieces does: either may be the last.
class IoRequest : public std::enable_shared_from_this<IoRequest> {
 public:
  explicit IoRequest(IoRequestOptions options) : options_(std::move(options)) {}

  IoDirection direction() const { return options_.transfer.direction; }
  size_t length_bytes() const { return options_.transfer.length_bytes; }

  // "read PATH offset_bytes=4096 length_bytes=1048576", the whole request.
  std::string What() const;

  // The next piece for the kernel, none once all are cut or one has failed.
  std::optional<IoPiece> CutPiece();

  // A piece is over. The last one makes the request ready and calls `done`.
  void Finish(const Status& piece_status);

  bool ready() const;
  void WaitUntilReady();
  // How the request ended, nothing when it is not over in time.
  std::optional<Status> Wait(std::chrono::milliseconds deadline);
  // Where it stands, for people.
  std::string Progress() const;

 private:
  bool ReadyLocked() const;

  const IoRequestOptions options_;
  mutable std::mutex mutex_;
  std::condition_variable became_ready_;
  uint64_t cut_bytes_ = 0;
  uint32_t pieces_out_ = 0;
  Status failure_;
};

}  // namespace strata::aio
