// One of several threads that torture an engine.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <random>
#include <span>
#include <vector>

#include "aio/io_engine.h"
#include "tests/aio/torture/file_model.h"
#include "tests/fakes/fault_plan.h"

namespace strata::aio {

struct TortureStage {
  std::vector<FileModel*> files = {};
  IoEngine* engine = nullptr;
  const fakes::FaultPlan* faults = nullptr;  // of the engine; may be null
};

// Has some requests in flight at a time, on memory of its own. What it finds wrong is a failure of
// the test.
class TortureThread {
 public:
  static constexpr uint64_t kNumSlots = 4, kSlotBytes = 512 * 1024;
  static constexpr uint64_t kMemoryBytes = kNumSlots * kSlotBytes;

  TortureThread(const TortureStage& stage, std::span<std::byte> memory, uint64_t seed);

  // Starts this many requests, and finishes all but the last few.
  void Run(int num_requests);
  // Once the engine has gone: finishes those.
  void FinishAll();

 private:
  struct Range {
    FileModel* model;
    uint64_t offset_bytes;
    std::span<std::byte> memory;
  };
  struct Operation {
    IoDirection direction = IoDirection::kRead;
    std::vector<Range> ranges = {};
    bool may_be_cancelled = false;
    bool has_deadline = false;
    bool reads_past_end = false;
    size_t faults_before = 0;
    std::shared_ptr<std::atomic<int>> num_done = std::make_shared<std::atomic<int>>(0);
    IoTicket ticket = {};
  };

  uint64_t Below(uint64_t bound) { return random_() % bound; }
  bool Chance(uint64_t percent) { return Below(100) < percent; }
  std::span<std::byte> Slot(size_t index) const {
    return memory_.subspan(index * kSlotBytes, kSlotBytes);
  }

  void Start(size_t slot);
  void AddRanges(Operation& operation, std::span<std::byte> memory);
  uint64_t AnyLength(uint64_t most_bytes);
  RequestOptions AnyOptions(Operation& operation);
  IoTicket StartTicket(const Operation& operation, RequestOptions options);

  void Finish(size_t slot);
  void Drop(Operation& operation);
  Status WaitFor(Operation& operation);
  void Judge(const Operation& operation, const Status& status);
  bool Excuses(const Operation& operation, Code code) const;
  bool HasFault(const Operation& operation, bool lie) const;
  void CheckRead(const Operation& operation);
  void CheckOutside(const Operation& operation, std::span<const std::byte> slot);
  void TakeAsWritten(const Operation& operation);
  void SettleWrite(const Operation& operation);

  const TortureStage stage_;
  const std::span<std::byte> memory_;
  std::mt19937_64 random_;
  std::vector<std::unique_ptr<Operation>> operations_;  // by slot
  std::vector<std::shared_ptr<std::atomic<int>>> num_done_;
};

}  // namespace strata::aio
