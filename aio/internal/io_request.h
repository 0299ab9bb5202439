// One request and the pieces it is cut into: all that the backends share and that needs no kernel
// to be tested.
//
// A request is cut piece by piece, as the backend has room. Every piece is handed to the kernel
// until OnResult says that it is over, and is then given back with Finish. The request is over when
// nothing is left to cut, or it has failed, and no piece is out.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "aio/base/status.h"
#include "aio/internal/memory_chunks.h"
#include "aio/io_engine.h"

namespace strata::aio {

using SteadyTime = std::chrono::steady_clock::time_point;

// One range of a request, with what must be known of its file.
struct IoSegment {
  const File* file = nullptr;
  std::shared_ptr<const std::string> path = {};
  int fd = -1;
  int tail_fd = -1;  // of a write: where bytes go that make no whole block
  uint64_t offset_bytes = 0;
  std::byte* memory = nullptr;
  uint64_t length_bytes = 0;
  uint64_t offset_alignment_bytes = 1;
  uint64_t memory_alignment_bytes = 1;
};

// What goes to the kernel in one call.
struct IoTransfer {
  IoDirection direction = IoDirection::kRead;
  int fd = -1;
  uint64_t offset_bytes = 0;
  std::byte* memory = nullptr;
  size_t length_bytes = 0;
  bool durable = false;  // a write that returns when it is on the drive: RWF_DSYNC
  const File* file = nullptr;
};

// The block that holds the end of a read, of which only the first bytes are wanted.
class TailBlock {
 public:
  TailBlock(uint64_t block_bytes, uint64_t alignment_bytes, std::span<std::byte> wanted);

  std::byte* memory() const { return memory_.get(); }
  uint64_t wanted_bytes() const { return wanted_.size(); }
  void CopyOut() const;

 private:
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  std::unique_ptr<std::byte, Free> memory_;
  std::span<std::byte> wanted_;
};

// One part of a request on its way to the end. Move-only; thread-compatible.
class IoPiece {
 public:
  enum class Next { kFinish, kRepeat };

  // `segment` is the index of the range that it belongs to. Transfers start at multiples of
  // `alignment_bytes`, also after one that stopped short.
  IoPiece(std::shared_ptr<IoRequest> request, size_t segment, const IoTransfer& transfer,
          uint64_t alignment_bytes);
  // One that never goes to the kernel, as its request has ended: only to be given back.
  IoPiece(std::shared_ptr<IoRequest> request, Status end);

  void LandIn(TailBlock tail) { tail_ = std::move(tail); }

  // What is still to be moved.
  const IoTransfer& transfer() const { return transfer_; }

  // What to do after the kernel returned `result`, the bytes moved or a negative errno: hand
  // transfer() to the kernel again, or finish.
  Next OnResult(int64_t result);

  // The range that it is a part of, for people.
  std::string What() const;
  // How the piece ended.
  const Status& status() const { return status_; }
  IoRequest& request() const { return *request_; }

  void set_submitted_at(SteadyTime at) { submitted_at_ = at; }
  SteadyTime submitted_at() const { return submitted_at_; }

 private:
  Next OnMoved(uint64_t moved_bytes);
  Next OnShortTransfer(uint64_t moved_bytes);
  Next RepeatOr(int error_number);
  Next Fail(int error_number);
  Next FailAtEndOfFile(uint64_t end_bytes);

  std::shared_ptr<IoRequest> request_;
  size_t segment_ = 0;
  IoTransfer transfer_;
  uint64_t alignment_bytes_ = 1;
  std::optional<TailBlock> tail_;
  uint64_t last_stop_bytes_ = UINT64_MAX;  // where the last transfer stopped that made no progress
  int repeats_ = 0;                        // in a row, without progress
  SteadyTime submitted_at_;
  Status status_;
};

struct IoRequestOptions {
  IoDirection direction = IoDirection::kRead;
  std::vector<IoSegment> segments = {};
  uint64_t block_size_bytes = 1 << 20;
  MemoryChunks chunks = {};  // no piece crosses a border of these
  IoPriority priority = IoPriority::kNormal;
  SteadyTime deadline = SteadyTime::max();
  IoDone done = {};
};

// Thread-safe. Lives while its ticket or one of its pieces does: either may be the last.
class IoRequest : public std::enable_shared_from_this<IoRequest> {
 public:
  explicit IoRequest(IoRequestOptions options);

  IoDirection direction() const { return options_.direction; }
  IoPriority priority() const { return options_.priority; }
  uint64_t length_bytes() const { return length_bytes_; }

  // "read PATH offset_bytes=4096 length_bytes=1048576", of one range.
  std::string What(size_t segment) const;

  // The next piece for the kernel, none once all are cut or the request has ended early. Past the
  // deadline: one with a status, to be given back at once.
  std::optional<IoPiece> CutPiece();

  // What CutPiece has still to cut.
  uint64_t uncut_bytes() const;

  // A piece is over. The last one makes the request ready and calls `done`.
  void Finish(const Status& piece_status);
  // No further piece: the request ends with `why`, unless it has ended already.
  void EndEarly(const Status& why);

  bool ready() const;
  void WaitUntilReady();
  // How the request ended, nothing when it is not over at `until`.
  std::optional<Status> WaitUntil(SteadyTime until);

  SteadyTime deadline() const { return options_.deadline; }
  Status PastDeadline() const;
  Status Cancelled() const;
  // Where it stands, for people.
  std::string Progress() const;

 private:
  bool ReadyLocked() const;
  void TellReady();
  IoPiece NextPieceLocked();
  uint64_t BodyBytes(const IoSegment& segment) const;
  IoPiece CutBody(const IoSegment& segment, uint64_t body_bytes);
  IoPiece CutTail(const IoSegment& segment);

  const IoRequestOptions options_;
  uint64_t length_bytes_ = 0;
  mutable std::mutex mutex_;
  std::condition_variable became_ready_;
  size_t segment_ = 0;              // the range that is being cut
  uint64_t segment_cut_bytes_ = 0;  // of it
  uint64_t cut_bytes_ = 0;          // of all
  uint32_t pieces_out_ = 0;
  Status failure_;
};

}  // namespace strata::aio
