// An I/O engine on a bad day: passes requests on to a real one, except those it is told to spoil.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "aio/file.h"
#include "aio/io_buffer.h"
#include "aio/io_engine.h"

namespace strata::fakes {

enum class ReadFault { kError };
enum class WriteFault {
  kError,
  kLost,     // reported as done, never reaches the file
  kFlipped,  // one bit of it reaches the file the other way round
};

// Thread-safe.
class FaultEngine final : public aio::IoEngine {
 public:
  // `directory` is for two small files of its own, which the spoilt requests go to.
  FaultEngine(std::unique_ptr<aio::IoEngine> real, const std::string& directory);

  // Spoils the `nth` request of its kind from now, 1 being the next.
  void Spoil(ReadFault fault, uint64_t nth);
  void Spoil(WriteFault fault, uint64_t nth);

  uint64_t num_writes() const;

  aio::IoTicket StartReads(std::span<const aio::ReadRange> ranges,
                           aio::RequestOptions options) override;
  aio::IoTicket StartWrites(std::span<const aio::WriteRange> ranges,
                            aio::RequestOptions options) override;
  aio::IoCounters counters() const override { return real_->counters(); }
  aio::LatencyHistogram latency(aio::IoDirection direction) const override {
    return real_->latency(direction);
  }
  aio::IoBackend backend() const override { return real_->backend(); }
  std::vector<std::string> notes() const override { return real_->notes(); }

 private:
  std::span<const std::byte> FlippedCopy(std::span<const std::byte> bytes);

  aio::File empty_;  // read-only: reads end past its end, writes are refused
  aio::File sink_;
  mutable std::mutex mutex_;
  uint64_t num_reads_ = 0;
  uint64_t num_writes_ = 0;
  std::map<uint64_t, ReadFault> read_faults_;
  std::map<uint64_t, WriteFault> write_faults_;
  std::vector<aio::HugeMemory> copies_;
  std::unique_ptr<aio::IoEngine> real_;  // last: its requests use the rest
};

}  // namespace strata::fakes
