// An I/O engine on a bad day: passes what it is given on to a real one, except what it spoils.
//
// Requests are cut into transfers here, and every transfer meets its fate (fault_plan.h) as if the
// kernel had answered so. Resumption, repeats, messages, cancelling, deadlines and latencies are
// those of every backend. The bytes are moved by the real engine.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "aio/io_engine.h"
#include "tests/fakes/fault_plan.h"

namespace strata::fakes {

struct FaultOptions {
  uint64_t seed = 1;
  uint64_t block_size_bytes = 1 << 20;  // of the transfers that meet their fate one by one
  uint32_t transfers_in_flight = 8;
  // What is delayed or reordered waits for three others, and for as long at most.
  std::chrono::microseconds delay = std::chrono::milliseconds(2);
  std::vector<FaultChance> chances = {};
};

// What hung requests wait at. Thread-safe; outlives the engine for who lets go while that ends.
class HungRequests {
 public:
  void Wait();
  void LetGo();

 private:
  std::mutex mutex_;
  std::condition_variable let_go_;
  bool hangs_ = true;
};

// Thread-safe.
class FaultEngine final : public aio::IoEngine {
 public:
  explicit FaultEngine(std::unique_ptr<aio::IoEngine> real, const FaultOptions& options = {});

  // The `nth` request of its kind from now, 1 being the next: the transfer of its first byte.
  void SpoilRead(const Fault& fault, uint64_t nth);
  void SpoilWrite(const Fault& fault, uint64_t nth);
  FaultPlan& plan() { return *plan_; }
  // Shared with who destroys the engine with requests in flight and then asks what they met.
  std::shared_ptr<const FaultPlan> shared_plan() const { return plan_; }

  // From now on nothing hangs any more. The engine can only be destroyed when nothing does.
  void LetGo() { hung_->LetGo(); }
  std::shared_ptr<HungRequests> hung() const { return hung_; }

  uint64_t num_writes() const { return plan_->num_requests(aio::IoDirection::kWrite); }

  aio::IoTicket StartReads(std::span<const aio::ReadRange> ranges,
                           aio::RequestOptions options) override;
  aio::IoTicket StartWrites(std::span<const aio::WriteRange> ranges,
                            aio::RequestOptions options) override;
  aio::IoCounters counters() const override { return front_->counters(); }
  aio::LatencyHistogram latency(aio::IoDirection direction) const override {
    return front_->latency(direction);
  }
  aio::IoBackend backend() const override { return real_->backend(); }
  std::vector<std::string> notes() const override { return real_->notes(); }

 private:
  // All below: many threads; they return what a kernel would.
  int64_t Transfer(const aio::IoTransfer& transfer);
  int64_t Spoil(const aio::IoTransfer& transfer, const FaultPlan::Decision& decision);
  int64_t Move(const aio::IoTransfer& transfer);
  void LetOthersGoFirst();
  void CountMoved();

  const std::shared_ptr<FaultPlan> plan_;
  const std::chrono::microseconds delay_;
  std::mutex mutex_;
  std::condition_variable moved_one_;
  uint64_t num_moved_ = 0;
  const std::shared_ptr<HungRequests> hung_ = std::make_shared<HungRequests>();
  std::unique_ptr<aio::IoEngine> real_;
  std::unique_ptr<aio::IoEngine> front_;  // last: what it has in flight uses the rest
};

}  // namespace strata::fakes
