// What the backends share: making requests, and judging and counting results.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "aio/internal/io_request.h"
#include "aio/io_engine.h"

namespace strata::aio {

// Thread-safe.
class RequestEngine : public IoEngine {
 public:
  IoTicket StartRead(const File& file, uint64_t offset_bytes, std::span<std::byte> into,
                     IoDone done) final;
  IoTicket StartWrite(const File& file, uint64_t offset_bytes, std::span<const std::byte> from,
                      IoDone done) final;
  IoCounters counters() const final;

  // Takes the kernel's answer to a piece: kRepeat, or it has been given back to its request.
  IoPiece::Next OnResult(IoPiece& piece, int64_t result);
  void CountPiece() { ++pieces_; }

 protected:
  explicit RequestEngine(const IoEngineOptions& options);
  virtual void Enqueue(std::shared_ptr<IoRequest> request) = 0;

  const IoEngineOptions& options() const { return options_; }

 private:
  IoTicket Start(const File& file, const IoTransfer& transfer, IoDone done);
  void Count(const IoTransfer& transfer, int64_t result);

  const IoEngineOptions options_;
  std::atomic<uint64_t> bytes_read_ = 0;
  std::atomic<uint64_t> bytes_written_ = 0;
  std::atomic<uint64_t> requests_ = 0;
  std::atomic<uint64_t> pieces_ = 0;
  std::atomic<uint64_t> short_transfers_ = 0;
  std::atomic<uint64_t> retries_ = 0;
};

// Both backends' limits; the message names the knob.
Status CheckOptions(const IoEngineOptions& options);

}  // namespace strata::aio
