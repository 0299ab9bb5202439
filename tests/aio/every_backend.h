// What the suites over every backend share: an engine, a file, memory for both directions.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <span>
#include <string>

#include "aio/io_buffer.h"
#include "aio/io_engine.h"
#include "tests/aio/process.h"
#include "tests/aio/scratch.h"

namespace strata::aio {

class IoEngineTest : public testing::TestWithParam<IoBackend> {
 protected:
  void SetUp() override {
    Result<std::unique_ptr<IoEngine>> engine = IoEngine::Create(Options());
    if (engine.status().code() == Code::kUnavailable && !IsRequired("uring"))
      GTEST_SKIP() << engine.status().ToString();
    engine_ = OrDie(std::move(engine));
  }

  IoEngineOptions Options() const {
    return {.backend = GetParam(), .block_size_bytes = 64_KiB, .queue_depth = 8};
  }
  // The engine under test, made anew with other options.
  void Use(const IoEngineOptions& options) { engine_ = OrDie(IoEngine::Create(options)); }

  std::span<std::byte> At(uint64_t offset_bytes, uint64_t length_bytes) const {
    return memory_.bytes().subspan(offset_bytes, length_bytes);
  }
  File NewFile(uint64_t size_bytes) {
    File file = OrDie(
        File::Open(path_, {.access = FileAccess::kReadWrite, .create = FileCreate::kCreateOrOpen}));
    EXPECT_TRUE(file.Preallocate(size_bytes).ok());
    return file;
  }
  Status Write(const File& file, uint64_t offset_bytes, std::span<const std::byte> from) {
    return engine_->StartWrite(file, offset_bytes, from).Wait();
  }
  Status Read(const File& file, uint64_t offset_bytes, std::span<std::byte> into) {
    return engine_->StartRead(file, offset_bytes, into).Wait();
  }
  // Writes the first half of the memory and reads it back into the second.
  void ExpectRoundTrip(uint64_t length_bytes) {
    File file = NewFile(length_bytes);
    FillWithRandomBytes(At(0, length_bytes), length_bytes);
    ASSERT_EQ(Write(file, 0, At(0, length_bytes)).ToString(), "ok");
    ASSERT_EQ(Read(file, 0, At(4_MiB, length_bytes)).ToString(), "ok");
    EXPECT_TRUE(std::ranges::equal(At(0, length_bytes), At(4_MiB, length_bytes)));
  }

  ScratchDirectory directory_;
  std::string path_ = directory_.File("data");
  HugeMemory memory_ = OrDie(HugeMemory::Map(8_MiB));
  std::unique_ptr<IoEngine> engine_;
};

inline std::string NameOfBackend(const testing::TestParamInfo<IoBackend>& backend) {
  return std::string(IoBackendName(backend.param));
}

}  // namespace strata::aio
