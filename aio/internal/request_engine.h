// What the backends share: making requests, and judging and counting results.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "aio/internal/io_request.h"
#include "aio/io_engine.h"

namespace strata::aio {

// Thread-safe.
class RequestEngine : public IoEngine {
 public:
  IoTicket StartReads(std::span<const ReadRange> ranges, RequestOptions options) final;
  IoTicket StartWrites(std::span<const WriteRange> ranges, RequestOptions options) final;
  IoCounters counters() const final;
  LatencyHistogram latency(IoDirection direction) const final;
  std::vector<std::string> notes() const final { return notes_; }

  // Before the first request only. A note that is known already is not taken twice.
  void TakeNote(const std::string& note);

  // To be asked of every piece that was cut, before anything else. False: its request has ended,
  // the piece has been given back and does not go to the kernel.
  bool Admit(IoPiece& piece);
  // Takes the kernel's answer to a piece: kRepeat, or it has been given back to its request.
  IoPiece::Next OnResult(IoPiece& piece, int64_t result);

 protected:
  explicit RequestEngine(const IoEngineOptions& options);
  virtual void Enqueue(std::shared_ptr<IoRequest> request) = 0;

  const IoEngineOptions& options() const { return options_; }

 private:
  using LatencyCounts = std::array<std::atomic<uint64_t>, LatencyHistogram::kNumBuckets>;

  IoTicket Start(IoRequestOptions request, RequestOptions options);
  void Count(const IoTransfer& transfer, int64_t result);
  void CountLatency(const IoPiece& piece);

  const IoEngineOptions options_;
  std::vector<std::string> notes_;
  std::atomic<uint64_t> bytes_read_ = 0;
  std::atomic<uint64_t> bytes_written_ = 0;
  std::atomic<uint64_t> requests_ = 0;
  std::atomic<uint64_t> pieces_ = 0;
  std::atomic<uint64_t> short_transfers_ = 0;
  std::atomic<uint64_t> retries_ = 0;
  std::array<LatencyCounts, 2> latencies_ = {};  // by IoDirection
};

// Both backends' limits; the message names the knob.
Status CheckOptions(const IoEngineOptions& options);

}  // namespace strata::aio
