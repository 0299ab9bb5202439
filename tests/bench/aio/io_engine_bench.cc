// How fast requests go through IoEngine, by backend, size and number in flight. Each row says what
// a caller sees who keeps `depth` requests of `op_kib` in flight on one file.
#include <benchmark/benchmark.h>
#include <stdlib.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <memory>
#include <random>
#include <string>

#include "aio/io_buffer.h"
#include "aio/io_engine.h"

namespace strata::aio {
namespace {

constexpr uint64_t kFileBytes = 32_MiB;

enum class Direction { kRead, kWrite };

// The directory to measure, or the system's own for temporary files.
std::string ScratchTemplate() {
  const char* directory = std::getenv("STRATA_BENCH_DIR");
  return (directory != nullptr ? std::string(directory) : std::string("/tmp")) +
         "/strata-bench-XXXXXX";
}

class IoEngineBench : public benchmark::Fixture {
 public:
  void SetUp(benchmark::State& state) override {
    Status status = Prepare(state);
    if (!status.ok()) state.SkipWithError(status.ToString().c_str());
  }
  void TearDown(benchmark::State&) override {
    window_.clear();
    engine_.reset();
    file_.reset();
    memory_.reset();
    std::error_code error;
    std::filesystem::remove_all(directory_, error);
  }

 protected:
  void Run(benchmark::State& state, Direction direction) {
    for (auto _ : state) {
      while (window_.size() < depth_) StartNext(direction);
      Status status = window_.front().Wait();
      window_.pop_front();
      if (!status.ok()) return state.SkipWithError(status.ToString().c_str());
    }
    state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(op_bytes_));
  }

 private:
  Status Prepare(const benchmark::State& state) {
    op_bytes_ = static_cast<uint64_t>(state.range(1)) << 10;
    depth_ = static_cast<size_t>(state.range(2));
    started_ = 0;
    STRATA_RETURN_IF_ERROR(MakeMemory());
    STRATA_ASSIGN_OR_RETURN(engine_, IoEngine::Create({.backend = IoBackend(state.range(0)),
                                                       .registered_memory = memory_->bytes()}));
    return MakeFile();
  }
  // One lane of memory per request in flight; holds the file's random content at first.
  Status MakeMemory() {
    STRATA_ASSIGN_OR_RETURN(HugeMemory memory, HugeMemory::Map(kFileBytes));
    memory_ = std::make_unique<HugeMemory>(std::move(memory));
    std::mt19937_64 random(1);
    std::span<std::byte> bytes = memory_->bytes();
    auto* words = reinterpret_cast<uint64_t*>(bytes.data());
    std::generate_n(words, bytes.size() / sizeof(uint64_t), random);
    return OkStatus();
  }
  Status MakeFile() {
    directory_ = ScratchTemplate();
    if (mkdtemp(directory_.data()) == nullptr) return ErrnoStatus(errno, "create " + directory_);
    STRATA_ASSIGN_OR_RETURN(File file,
                            File::Open(directory_ + "/data", {.access = FileAccess::kReadWrite,
                                                              .create = FileCreate::kCreateNew}));
    file_ = std::make_unique<File>(std::move(file));
    STRATA_RETURN_IF_ERROR(file_->Preallocate(kFileBytes));
    return engine_->StartWrite(*file_, 0, memory_->bytes()).Wait();
  }
  void StartNext(Direction direction) {
    uint64_t offset_bytes = started_++ % (kFileBytes / op_bytes_) * op_bytes_;
    std::span<std::byte> memory = memory_->bytes().subspan(offset_bytes, op_bytes_);
    window_.push_back(direction == Direction::kRead
                          ? engine_->StartRead(*file_, offset_bytes, memory)
                          : engine_->StartWrite(*file_, offset_bytes, memory));
  }

  uint64_t op_bytes_ = 0;
  size_t depth_ = 0;
  uint64_t started_ = 0;
  std::string directory_;
  std::unique_ptr<HugeMemory> memory_;
  std::unique_ptr<File> file_;
  std::unique_ptr<IoEngine> engine_;
  std::deque<IoTicket> window_;
};

void BackendSizeDepth(benchmark::internal::Benchmark* bench) {
  bench
      ->ArgNames({"backend", "op_kib", "depth"})  // backend 0: io_uring, 1: libaio, 2: posix
      ->ArgsProduct({{0, 1, 2}, {64, 1024, 8192}, {1, 8}})
      ->UseRealTime()
      ->MeasureProcessCPUTime();
}

BENCHMARK_DEFINE_F(IoEngineBench, SequentialRead)(benchmark::State& state) {
  Run(state, Direction::kRead);
}
BENCHMARK_REGISTER_F(IoEngineBench, SequentialRead)->Apply(BackendSizeDepth);

BENCHMARK_DEFINE_F(IoEngineBench, SequentialWrite)(benchmark::State& state) {
  Run(state, Direction::kWrite);
}
BENCHMARK_REGISTER_F(IoEngineBench, SequentialWrite)->Apply(BackendSizeDepth);

}  // namespace
}  // namespace strata::aio

BENCHMARK_MAIN();
