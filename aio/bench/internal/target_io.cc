#include "aio/bench/internal/target_io.h"

#include <algorithm>
#include <memory>

#include "aio/base/units.h"
#include "aio/bench/internal/request_window.h"
#include "aio/io_buffer.h"

namespace strata::aio {
namespace {

constexpr size_t kSlotBytes = 4_MiB;
constexpr size_t kNumSlots = 4;
constexpr std::chrono::milliseconds kSampleTime(300);

// Memory, an engine, and how far it is.
class Pass {
 public:
  static Result<Pass> Create(uint64_t size_bytes) {
    STRATA_ASSIGN_OR_RETURN(HugeMemory memory, HugeMemory::Map(kSlotBytes * kNumSlots));
    STRATA_ASSIGN_OR_RETURN(std::unique_ptr<IoEngine> engine, IoEngine::Create({}));
    return Pass(std::move(memory), std::move(engine), size_bytes);
  }

  // The slot becomes the next piece of the range; false at its end.
  bool Next(WindowSlot& slot) {
    if (next_bytes_ >= size_bytes_) return false;
    slot.first = next_bytes_;
    slot.length_bytes = std::min<uint64_t>(kSlotBytes, size_bytes_ - next_bytes_);
    next_bytes_ += slot.length_bytes;
    return true;
  }
  void StartOver() { next_bytes_ = 0; }

  Status Run(const StartSlot& start, const FinishSlot& finish, const StopCheck& stop) {
    WindowOptions window = {
        .memory = memory_.bytes(), .slot_bytes = kSlotBytes, .num_slots = kNumSlots};
    return RunWindow(window, start, finish, stop);
  }

  IoEngine& engine() { return *engine_; }

 private:
  Pass(HugeMemory memory, std::unique_ptr<IoEngine> engine, uint64_t size_bytes)
      : memory_(std::move(memory)), engine_(std::move(engine)), size_bytes_(size_bytes) {}

  HugeMemory memory_;
  std::unique_ptr<IoEngine> engine_;
  uint64_t size_bytes_;
  uint64_t next_bytes_ = 0;
};

std::span<std::byte> BytesOf(const WindowSlot& slot) {
  return slot.memory.first(slot.length_bytes);
}

// Counts what has ended.
class Tally {
 public:
  Tally(std::string_view what, uint64_t total, const BytesProgress& progress)
      : what_(what), total_(total), progress_(progress) {}
  void Add(uint64_t bytes) {
    done_ += bytes;
    if (progress_) progress_(what_, done_, total_);
  }

 private:
  std::string_view what_;
  uint64_t total_;
  const BytesProgress& progress_;
  uint64_t done_ = 0;
};

}  // namespace

Status WriteOnce(const StripedFile& files, uint64_t size_bytes, TargetContent& content,
                 const BytesProgress& progress, const StopCheck& stop) {
  STRATA_ASSIGN_OR_RETURN(Pass pass, Pass::Create(size_bytes));
  Tally tally("writing the data to read", size_bytes, progress);
  auto start = [&](WindowSlot& slot) {
    if (!pass.Next(slot)) return false;
    content.FillForWrite(slot.first, BytesOf(slot));
    slot.ticket = pass.engine().StartWrites(files.Writes(slot.first, BytesOf(slot)));
    return true;
  };
  auto finish = [&](WindowSlot& slot) {
    tally.Add(slot.length_bytes);
    return OkStatus();
  };
  return pass.Run(start, finish, stop);
}

Status ReadAndCheck(const StripedFile& files, uint64_t size_bytes, const TargetContent& content,
                    const BytesProgress& progress, const StopCheck& stop) {
  STRATA_ASSIGN_OR_RETURN(Pass pass, Pass::Create(size_bytes));
  Tally tally("verifying", size_bytes, progress);
  auto start = [&](WindowSlot& slot) {
    if (!pass.Next(slot)) return false;
    slot.ticket = pass.engine().StartReads(files.Reads(slot.first, BytesOf(slot)));
    return true;
  };
  auto finish = [&](WindowSlot& slot) {
    tally.Add(slot.length_bytes);
    return content.Check(slot.first, BytesOf(slot));
  };
  return pass.Run(start, finish, stop);
}

Status WriteSample(const File& file, uint64_t size_bytes, uint64_t seed, const StopCheck& stop) {
  STRATA_ASSIGN_OR_RETURN(Pass pass, Pass::Create(size_bytes));
  auto start = [&](WindowSlot& slot) {
    if (!pass.Next(slot)) return false;
    FillPattern(BytesOf(slot), {.seed = seed, .sector = slot.first / kPatternSectorBytes});
    slot.ticket = pass.engine().StartWrite(file, slot.first, BytesOf(slot));
    return true;
  };
  return pass.Run(
      start, [](WindowSlot&) { return OkStatus(); }, stop);
}

Result<double> MeasureReadBytesPerSecond(const File& file, uint64_t size_bytes,
                                         const StopCheck& stop) {
  STRATA_ASSIGN_OR_RETURN(Pass pass, Pass::Create(size_bytes));
  auto begin = std::chrono::steady_clock::now();
  uint64_t read_bytes = 0;
  auto start = [&](WindowSlot& slot) {
    if (std::chrono::steady_clock::now() - begin > kSampleTime && read_bytes > 0) return false;
    if (!pass.Next(slot)) {
      pass.StartOver();
      pass.Next(slot);
    }
    slot.ticket = pass.engine().StartRead(file, slot.first, BytesOf(slot));
    return true;
  };
  auto finish = [&](WindowSlot& slot) {
    read_bytes += slot.length_bytes;
    return OkStatus();
  };
  STRATA_RETURN_IF_ERROR(pass.Run(start, finish, stop));
  std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  return static_cast<double>(read_bytes) / took.count();
}

}  // namespace strata::aio
