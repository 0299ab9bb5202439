#include "tests/aio/torture/torture_thread.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>

#include "aio/base/units.h"
#include "tests/aio/scratch.h"

namespace strata::aio {
namespace {

constexpr std::byte kUntouched{0x5a};

}  // namespace

TortureThread::TortureThread(const TortureStage& stage, std::span<std::byte> memory, uint64_t seed)
    : stage_(stage), memory_(memory), random_(seed), operations_(kNumSlots) {}

void TortureThread::Run(int num_requests) {
  while (num_requests > 0 && !testing::Test::HasFailure()) {
    size_t slot = Below(kNumSlots);
    if (operations_[slot]) {
      Finish(slot);
    } else {
      Start(slot);
      --num_requests;
    }
  }
}

void TortureThread::FinishAll() {
  for (size_t slot = 0; slot < kNumSlots; ++slot) {
    if (operations_[slot]) Finish(slot);
  }
  for (const auto& num_done : num_done_) EXPECT_EQ(*num_done, 1);
}

void TortureThread::Start(size_t slot) {
  auto operation = std::make_unique<Operation>();
  operation->direction = Chance(50) ? IoDirection::kRead : IoDirection::kWrite;
  std::span<std::byte> memory = Slot(slot);
  if (operation->direction == IoDirection::kRead) std::ranges::fill(memory, kUntouched);
  AddRanges(*operation, memory);
  if (operation->ranges.empty()) return;
  if (stage_.faults) operation->faults_before = stage_.faults->num_injected();
  operation->ticket = StartTicket(*operation, AnyOptions(*operation));
  if (Chance(10)) {
    operation->may_be_cancelled = true;
    operation->ticket.Cancel();
  }
  operations_[slot] = std::move(operation);
}

// Those that somebody else is at are left out.
void TortureThread::AddRanges(Operation& operation, std::span<std::byte> memory) {
  bool is_read = operation.direction == IoDirection::kRead;
  for (uint64_t more = 1 + (Chance(50) ? 0 : Below(5)); more > 0 && memory.size() >= 4_KiB;
       --more) {
    FileModel* model = stage_.files[Below(stage_.files.size())];
    uint64_t step_bytes = model->file().offset_alignment_bytes();
    uint64_t offset_bytes = Below(model->size_bytes()) / step_bytes * step_bytes;
    uint64_t length_bytes = AnyLength(memory.size());
    uint64_t left_bytes = model->size_bytes() - offset_bytes;
    bool past_end = is_read && Chance(3) && length_bytes > left_bytes;
    if (!past_end) length_bytes = std::min(length_bytes, left_bytes);
    if (!model->Reserve(operation.direction, offset_bytes, length_bytes)) continue;
    operation.reads_past_end |= past_end;
    operation.ranges.push_back({model, offset_bytes, memory.first(length_bytes)});
    memory = memory.subspan(std::min(RoundUp(length_bytes, 4_KiB), memory.size()));
    if (!is_read) FillWithRandomBytes(operation.ranges.back().memory, random_());
  }
}

uint64_t TortureThread::AnyLength(uint64_t most_bytes) {
  constexpr uint64_t kMost[] = {600, 5000, 70'000, 300'000};
  uint64_t length_bytes = 1 + Below(std::min(kMost[Below(std::size(kMost))], most_bytes));
  return Chance(50) ? length_bytes : std::min(RoundUp(length_bytes, 4_KiB), most_bytes);
}

RequestOptions TortureThread::AnyOptions(Operation& operation) {
  constexpr std::chrono::microseconds kPatience[] = {
      std::chrono::microseconds(0), std::chrono::microseconds(200), std::chrono::milliseconds(5)};
  RequestOptions options = {.priority = static_cast<IoPriority>(Below(3))};
  operation.has_deadline = Chance(15);
  if (operation.has_deadline) {
    auto patience = kPatience[Below(std::size(kPatience))];
    options.deadline = std::chrono::steady_clock::now() + patience;
  }
  num_done_.push_back(operation.num_done);
  options.done = [num_done = operation.num_done] { ++*num_done; };
  return options;
}

IoTicket TortureThread::StartTicket(const Operation& operation, RequestOptions options) {
  if (operation.direction == IoDirection::kRead) {
    std::vector<ReadRange> ranges;
    for (const Range& range : operation.ranges)
      ranges.push_back({&range.model->file(), range.offset_bytes, range.memory});
    return stage_.engine->StartReads(ranges, std::move(options));
  }
  std::vector<WriteRange> ranges;
  for (const Range& range : operation.ranges)
    ranges.push_back({&range.model->file(), range.offset_bytes, range.memory});
  return stage_.engine->StartWrites(ranges, std::move(options));
}

void TortureThread::Finish(size_t slot) {
  std::unique_ptr<Operation> operation = std::move(operations_[slot]);
  if (Chance(15)) {
    operation->may_be_cancelled = true;
    operation->ticket.Cancel();
  }
  Chance(15) ? Drop(*operation) : Judge(*operation, WaitFor(*operation));
  CheckOutside(*operation, Slot(slot));
  for (const Range& range : operation->ranges)
    range.model->Release(operation->direction, range.offset_bytes, range.memory.size());
}

// Nobody knows how it ended, only that it is over.
void TortureThread::Drop(Operation& operation) {
  operation.ticket = {};
  if (operation.direction == IoDirection::kWrite) SettleWrite(operation);
}

Status TortureThread::WaitFor(Operation& operation) {
  if (Chance(20)) {
    Status status = operation.ticket.Wait(std::chrono::milliseconds(0));
    if (!operation.ticket.valid()) return status;
    EXPECT_EQ(status.code(), Code::kDeadlineExceeded);
  }
  Status status = operation.ticket.Wait();
  // Its deadline has passed, but the kernel still has some of it.
  if (operation.ticket.valid() && operation.has_deadline) status = operation.ticket.Wait();
  EXPECT_FALSE(operation.ticket.valid()) << status.ToString();
  return status;
}

void TortureThread::Judge(const Operation& operation, const Status& status) {
  bool is_write = operation.direction == IoDirection::kWrite;
  if (!status.ok()) {
    EXPECT_TRUE(Excuses(operation, status.code())) << status.ToString();
    if (is_write) SettleWrite(operation);
    return;
  }
  EXPECT_FALSE(operation.reads_past_end);
  if (!is_write) return CheckRead(operation);
  HasFault(operation, /*lie=*/true) ? SettleWrite(operation) : TakeAsWritten(operation);
}

bool TortureThread::Excuses(const Operation& operation, Code code) const {
  switch (code) {
    case Code::kCancelled:
      return operation.may_be_cancelled;
    case Code::kDeadlineExceeded:
      return operation.has_deadline;
    case Code::kDataLoss:
      return operation.reads_past_end;
    default:
      return HasFault(operation, /*lie=*/false);
  }
}

// A fault at these places since the operation began: no other write is there, but another read may.
bool TortureThread::HasFault(const Operation& operation, bool lie) const {
  if (!stage_.faults) return false;
  return std::ranges::any_of(operation.ranges, [&](const Range& range) {
    auto met = stage_.faults->injected_in({.direction = operation.direction,
                                           .path = range.model->file().path(),
                                           .offset_bytes = range.offset_bytes,
                                           .length_bytes = range.memory.size()},
                                          operation.faults_before);
    return std::ranges::any_of(met, [&](const fakes::InjectedFault& fault) {
      return lie ? fault.is_lie() : fault.fault.kind == fakes::FaultKind::kError;
    });
  });
}

void TortureThread::CheckRead(const Operation& operation) {
  for (const Range& range : operation.ranges) {
    auto expected = range.model->Content(range.offset_bytes, range.memory.size());
    EXPECT_TRUE(std::ranges::equal(range.memory, expected))
        << "read " << range.model->file().path() << " offset_bytes=" << range.offset_bytes
        << " length_bytes=" << range.memory.size() << ": wrong bytes";
  }
}

// A read touches nothing but its ranges, which lie one after the other.
void TortureThread::CheckOutside(const Operation& operation, std::span<const std::byte> slot) {
  if (operation.direction == IoDirection::kWrite) return;
  const std::byte* at = slot.data();
  auto check_until = [&](const std::byte* end) {
    EXPECT_TRUE(std::all_of(at, end, [](std::byte byte) { return byte == kUntouched; }));
  };
  for (const Range& range : operation.ranges) {
    check_until(range.memory.data());
    at = range.memory.data() + range.memory.size();
  }
  check_until(slot.data() + slot.size());
}

void TortureThread::TakeAsWritten(const Operation& operation) {
  for (const Range& range : operation.ranges)
    range.model->Written(range.offset_bytes, range.memory);
}

void TortureThread::SettleWrite(const Operation& operation) {
  for (const Range& range : operation.ranges)
    EXPECT_EQ(range.model->Settle(range.offset_bytes, range.memory).ToString(), "ok");
}

}  // namespace strata::aio
