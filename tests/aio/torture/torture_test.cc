// Random requests against a model of the files, on every backend, with and without faults.
//
// STRATA_TORTURE_SECONDS is how long all backends take together, 20 if not set.
// STRATA_TORTURE_SEED repeats a run, as far as threads let it; the one in use is printed.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <thread>
#include <vector>

#include "aio/internal/libaio_queue.h"
#include "aio/internal/posix_engine.h"
#include "aio/internal/queue_engine.h"
#include "aio/internal/uring_queue.h"
#include "aio/io_buffer.h"
#include "tests/aio/backends.h"
#include "tests/aio/process.h"
#include "tests/aio/scratch.h"
#include "tests/aio/torture/fault_queue.h"
#include "tests/aio/torture/file_model.h"
#include "tests/aio/torture/torture_thread.h"
#include "tests/fakes/fault_engine.h"

namespace strata::aio {
namespace {

using fakes::FaultChance;
using fakes::FaultKind;

constexpr int kNumThreads = 3;
constexpr int kRequestsPerRound = 60;  // of each thread
constexpr int64_t kMostHeapGrowthBytes = 1 << 20;

uint64_t Setting(const char* name, uint64_t otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : std::strtoull(value, nullptr, 10);
}

// What may happen to any transfer.
std::vector<FaultChance> Honest() {
  std::vector<FaultChance> chances;
  for (IoDirection direction : {IoDirection::kRead, IoDirection::kWrite}) {
    chances.push_back({direction, {FaultKind::kShort}, 0.1});
    chances.push_back({direction, {FaultKind::kDelayed}, 0.05});
    chances.push_back({direction, {.error_number = EINTR}, 0.05});
    chances.push_back({direction, {.error_number = EAGAIN}, 0.05});
    chances.push_back({direction, {.error_number = EIO}, 0.01});
  }
  chances.push_back({IoDirection::kWrite, {.error_number = ENOSPC}, 0.01});
  return chances;
}

// What only a decorator can do as well.
std::vector<FaultChance> AlsoLies() {
  std::vector<FaultChance> chances = Honest();
  chances.push_back({IoDirection::kRead, {FaultKind::kReordered}, 0.05});
  chances.push_back({IoDirection::kWrite, {FaultKind::kReordered}, 0.05});
  chances.push_back({IoDirection::kWrite, {FaultKind::kTorn}, 0.03});
  chances.push_back({IoDirection::kWrite, {FaultKind::kLost}, 0.03});
  return chances;
}

class TortureTest : public testing::TestWithParam<IoBackend> {
 protected:
  void SetUp() override { STRATA_BACKEND_OR_SKIP(GetParam()); }

  // An engine is created, used by all threads, and destroyed with requests in flight.
  void Round(uint64_t seed);
  IoEngineOptions AnyOptions();
  std::unique_ptr<IoEngine> AnyEngine();
  std::unique_ptr<IoEngine> OverFaultyKernel(const IoEngineOptions& options);
  std::vector<FileModel*> Files() { return {&large_, &small_, &cached_}; }
  uint64_t Below(uint64_t bound) { return random_() % bound; }

  ScratchDirectory directory_;
  FileModel large_{directory_.File("large"), (1 << 20) + 777, /*direct=*/true};
  FileModel small_{directory_.File("small"), 160 << 10, /*direct=*/true};
  FileModel cached_{directory_.File("cached"), 300'001, /*direct=*/false};
  HugeMemory memory_ = OrDie(HugeMemory::Map(kNumThreads * TortureThread::kMemoryBytes));
  std::mt19937_64 random_;
  std::shared_ptr<const fakes::FaultPlan> faults_;  // of the engine, if it has any
};

INSTANTIATE_TEST_SUITE_P(Backends, TortureTest, EachBackend(), NameOfBackend);

IoEngineOptions TortureTest::AnyOptions() {
  IoEngineOptions options = {.backend = GetParam(),
                             .block_size_bytes = (1 + Below(32)) * 4096,
                             .queue_depth = static_cast<uint32_t>(1 + Below(24)),
                             .thread_count = static_cast<uint32_t>(1 + Below(3)),
                             .single_submit = Below(2) == 0,
                             .overlap_events = Below(4) != 0,
                             .sqpoll = GetParam() == IoBackend::kIoUring && Below(8) == 0,
                             .registered_files = Below(2) == 0};
  if (Below(2) == 0) options.registered_memory = memory_.bytes().first(memory_.bytes().size() / 2);
  return options;
}

std::unique_ptr<IoEngine> TortureTest::OverFaultyKernel(const IoEngineOptions& options) {
  auto plan = std::make_shared<fakes::FaultPlan>(random_());
  plan->SetChances(Honest());
  faults_ = plan;
  if (GetParam() == IoBackend::kPosix) {
    return OrDie(PosixEngine::Create(
        options, [plan](const auto& transfer) { return TransferWithFaults(transfer, *plan); }));
  }
  auto make_queue = [&]() -> Result<std::unique_ptr<KernelQueue>> {
    bool is_uring = GetParam() == IoBackend::kIoUring;
    STRATA_ASSIGN_OR_RETURN(std::unique_ptr<KernelQueue> real,
                            is_uring ? UringQueue::Create(options) : LibaioQueue::Create(options));
    return std::unique_ptr<KernelQueue>(
        std::make_unique<FaultQueue>(std::move(real), plan, random_()));
  };
  return OrDie(QueueEngine::Create(options, GetParam(), make_queue));
}

std::unique_ptr<IoEngine> TortureTest::AnyEngine() {
  IoEngineOptions options = AnyOptions();
  faults_.reset();
  uint64_t kind = Below(3);
  if (kind == 0) return OverFaultyKernel(options);
  std::unique_ptr<IoEngine> real = OrDie(IoEngine::Create(options));
  if (kind == 1) return real;
  auto engine = std::make_unique<fakes::FaultEngine>(
      std::move(real), fakes::FaultOptions{.seed = random_(),
                                           .block_size_bytes = (1 + Below(32)) * 4096,
                                           .delay = std::chrono::microseconds(500),
                                           .chances = AlsoLies()});
  faults_ = engine->shared_plan();
  return engine;
}

void TortureTest::Round(uint64_t seed) {
  random_.seed(seed);
  for (FileModel* file : Files()) file->Reopen();
  std::unique_ptr<IoEngine> engine = AnyEngine();
  std::vector<std::unique_ptr<TortureThread>> tortures;
  for (uint64_t i = 0; i < kNumThreads; ++i) {
    tortures.push_back(std::make_unique<TortureThread>(
        TortureStage{.files = Files(), .engine = engine.get(), .faults = faults_.get()},
        memory_.bytes().subspan(i * TortureThread::kMemoryBytes, TortureThread::kMemoryBytes),
        random_()));
  }
  {
    std::vector<std::jthread> threads;
    for (auto& torture : tortures) threads.emplace_back([&] { torture->Run(kRequestsPerRound); });
  }
  engine.reset();
  for (auto& torture : tortures) torture->FinishAll();
  faults_.reset();
  for (FileModel* file : Files()) EXPECT_EQ(file->CheckAll().ToString(), "ok");
}

TEST_P(TortureTest, EveryByteIsWhereItBelongsAndNothingIsLeftBehind) {
  const uint64_t seed = Setting("STRATA_TORTURE_SEED", std::random_device{}());
  const uint64_t seconds = Setting("STRATA_TORTURE_SECONDS", 20);
  std::printf("STRATA_TORTURE_SEED=%llu\n", static_cast<unsigned long long>(seed));
  const auto end = std::chrono::steady_clock::now() +
                   std::chrono::milliseconds(1000 * seconds / kAllIoBackends.size());
  int num_rounds = 0, descriptors = 0;
  int64_t heap_bytes = 0;
  for (; !HasFailure() && std::chrono::steady_clock::now() < end; ++num_rounds) {
    SCOPED_TRACE(fmt::format("STRATA_TORTURE_SEED={} round {}", seed, num_rounds));
    Round(fakes::MixBits(seed + static_cast<uint64_t>(num_rounds)));
    if (num_rounds > 10) continue;
    descriptors = NumOpenDescriptors();
    heap_bytes = HeapBytes();
  }
  EXPECT_EQ(NumOpenDescriptors(), descriptors);
  EXPECT_LT(HeapBytes() - heap_bytes, kMostHeapGrowthBytes);
  std::printf("%d rounds\n", num_rounds);
}

}  // namespace
}  // namespace strata::aio
