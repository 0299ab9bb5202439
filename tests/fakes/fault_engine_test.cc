#include "tests/fakes/fault_engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <functional>
#include <thread>

#include "aio/base/units.h"
#include "aio/io_buffer.h"
#include "tests/aio/backends.h"
#include "tests/aio/scratch.h"

namespace strata::fakes {
namespace {

using aio::IoDirection;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr uint64_t kBlockBytes = 16_KiB;
constexpr uint64_t kFileBytes = 256_KiB;

class FaultEngineTest : public testing::TestWithParam<aio::IoBackend> {
 protected:
  void SetUp() override {
    STRATA_BACKEND_OR_SKIP(GetParam());
    Use({});
    std::ranges::fill(Old(), std::byte{1});
    ASSERT_TRUE(file_.Preallocate(kFileBytes).ok());
    ASSERT_EQ(Write(0, Old()).ToString(), "ok");
    FillWithRandomBytes(New(), 2);
  }
  void Use(FaultOptions options) {
    options.block_size_bytes = kBlockBytes;
    engine_ = std::make_unique<FaultEngine>(
        OrDie(aio::IoEngine::Create({.backend = GetParam(), .block_size_bytes = 8_KiB})), options);
  }
  std::span<std::byte> Old() { return memory_.bytes().subspan(0, kFileBytes); }
  std::span<std::byte> New() { return memory_.bytes().subspan(kFileBytes, kFileBytes); }
  std::span<std::byte> Into() { return memory_.bytes().subspan(2 * kFileBytes, kFileBytes); }

  Status Write(uint64_t offset_bytes, std::span<const std::byte> from) {
    return engine_->StartWrite(file_, offset_bytes, from).Wait();
  }
  Status Read(uint64_t offset_bytes, std::span<std::byte> into) {
    return engine_->StartRead(file_, offset_bytes, into).Wait();
  }
  // What the file holds, of which every sector is that of New or of Old. By sector: is it new?
  std::vector<bool> NewSectors() {
    EXPECT_EQ(Read(0, Into()).ToString(), "ok");
    std::vector<bool> found;
    for (uint64_t at = 0; at < kFileBytes; at += 512) {
      auto holds = [&](std::span<std::byte> what) {
        return std::ranges::equal(Into().subspan(at, 512), what.subspan(at, 512));
      };
      EXPECT_TRUE(holds(New()) || holds(Old())) << "at byte " << at;
      found.push_back(holds(New()));
    }
    return found;
  }
  uint64_t NumNewSectors() {
    auto sectors = NewSectors();
    return static_cast<uint64_t>(std::ranges::count(sectors, true));
  }
  FaultPlace Place(IoDirection direction, uint64_t offset_bytes, uint64_t length_bytes) {
    return {direction, file_.path(), offset_bytes, length_bytes};
  }

  ScratchDirectory directory_;
  aio::File file_ =
      OrDie(aio::File::Open(directory_.File("data"), {.access = aio::FileAccess::kReadWrite,
                                                      .create = aio::FileCreate::kCreateNew}));
  aio::HugeMemory memory_ = OrDie(aio::HugeMemory::Map(2_MiB));
  std::unique_ptr<FaultEngine> engine_;
};

INSTANTIATE_TEST_SUITE_P(Backends, FaultEngineTest, aio::EachBackend(), aio::NameOfBackend);

TEST_P(FaultEngineTest, WithoutFaultsItIsTheRealOne) {
  ASSERT_EQ(Write(0, New().first(200'001)).ToString(), "ok");
  ASSERT_EQ(Read(0, Into().first(200'001)).ToString(), "ok");
  EXPECT_TRUE(std::ranges::equal(New().first(200'001), Into().first(200'001)));
  EXPECT_EQ(engine_->backend(), GetParam());
  EXPECT_THAT(engine_->plan().injected(), IsEmpty());
}

TEST_P(FaultEngineTest, AnErrorIsThatOfTheNthRequestAndNothingIsMoved) {
  engine_->SpoilWrite({.error_number = ENOSPC}, 2);
  engine_->SpoilRead({}, 1);
  EXPECT_EQ(Write(0, New().first(kBlockBytes)).ToString(), "ok");
  Status full = Write(kBlockBytes, New().subspan(kBlockBytes, kBlockBytes));
  EXPECT_EQ(full.code(), Code::kResourceExhausted);
  EXPECT_EQ(full.message(), "write " + file_.path() +
                                " offset_bytes=16384 length_bytes=16384: No space left on device");
  EXPECT_THAT(Read(0, Into()).message(), HasSubstr("Input/output error"));
  EXPECT_EQ(NumNewSectors(), kBlockBytes / 512);
  EXPECT_THAT(engine_->plan().injected(),
              ElementsAre(InjectedFault{{.error_number = ENOSPC},
                                        IoDirection::kWrite,
                                        file_.path(),
                                        kBlockBytes,
                                        kBlockBytes},
                          InjectedFault{{}, IoDirection::kRead, file_.path(), 0, kBlockBytes}));
}

TEST_P(FaultEngineTest, ABadPlaceFailsAsOftenAsItIsTouched) {
  engine_->plan().SpoilPlace(Place(IoDirection::kRead, 100'000, 1), {}, UINT64_MAX);
  EXPECT_FALSE(Read(0, Into()).ok());
  EXPECT_FALSE(Read(96_KiB, Into().first(4_KiB)).ok());
  EXPECT_TRUE(Read(112_KiB, Into().first(4_KiB)).ok());
  EXPECT_TRUE(Write(0, New()).ok());
}

TEST_P(FaultEngineTest, ShortTransfersAreResumedToTheLastByte) {
  Use({.chances = {{IoDirection::kRead, {FaultKind::kShort}, 0.7},
                   {IoDirection::kWrite, {FaultKind::kShort}, 0.7}}});
  ASSERT_EQ(Write(0, New().first(200'001)).ToString(), "ok");
  ASSERT_EQ(Read(0, Into().first(200'001)).ToString(), "ok");
  EXPECT_TRUE(std::ranges::equal(New().first(200'001), Into().first(200'001)));
  EXPECT_GT(engine_->counters().short_transfers, 10u);
}

TEST_P(FaultEngineTest, InterruptionsAreRepeatedAndStormsOfThemEnd) {
  Use({.chances = {{IoDirection::kWrite, {.error_number = EINTR}, 0.5}}});
  EXPECT_EQ(Write(0, New()).ToString(), "ok");
  EXPECT_EQ(NumNewSectors(), kFileBytes / 512);
  engine_->plan().SpoilPlace(Place(IoDirection::kRead, 0, 1), {.error_number = EAGAIN}, UINT64_MAX);
  EXPECT_THAT(Read(0, Into()).message(), HasSubstr("Resource temporarily unavailable"));
}

TEST_P(FaultEngineTest, DelaysAndReorderingChangeNoByte) {
  Use({.chances = {{IoDirection::kRead, {FaultKind::kDelayed}, 0.3},
                   {IoDirection::kRead, {FaultKind::kReordered}, 0.3},
                   {IoDirection::kWrite, {FaultKind::kDelayed}, 0.3},
                   {IoDirection::kWrite, {FaultKind::kReordered}, 0.3}}});
  EXPECT_EQ(Write(0, New()).ToString(), "ok");
  EXPECT_EQ(NumNewSectors(), kFileBytes / 512);
  EXPECT_GT(engine_->plan().num_injected(), 10u);
}

// It would wait for a minute: others let it go first.
TEST_P(FaultEngineTest, WhatIsReorderedReachesTheFileAfterThoseThatCameLater) {
  Use({.delay = std::chrono::minutes(1)});
  engine_->SpoilWrite({FaultKind::kReordered}, 1);
  aio::IoTicket late = engine_->StartWrite(file_, 0, New().first(4_KiB));
  while (engine_->plan().num_injected() == 0) std::this_thread::yield();
  ASSERT_TRUE(Read(0, Into().first(4_KiB)).ok());
  EXPECT_TRUE(std::ranges::equal(Into().first(4_KiB), Old().first(4_KiB)));
  EXPECT_FALSE(late.ready());
  while (!late.ready()) ASSERT_TRUE(Read(8_KiB, Into().first(4_KiB)).ok());
  EXPECT_EQ(late.Wait().ToString(), "ok");
  EXPECT_EQ(NumNewSectors(), 8u);
}

TEST_P(FaultEngineTest, WhatIsDelayedIsDoneButNotAnswered) {
  Use({.delay = std::chrono::minutes(1)});
  engine_->SpoilWrite({FaultKind::kDelayed}, 1);
  aio::IoTicket late = engine_->StartWrite(file_, 0, New().first(4_KiB));
  while (engine_->plan().num_injected() == 0) std::this_thread::yield();
  EXPECT_FALSE(late.ready());
  while (!late.ready()) ASSERT_TRUE(Read(8_KiB, Into().first(4_KiB)).ok());
  EXPECT_EQ(late.Wait().ToString(), "ok");
  EXPECT_EQ(NumNewSectors(), 8u);
}

TEST_P(FaultEngineTest, ALostWriteIsReportedAsDoneAndIsNot) {
  engine_->SpoilWrite({FaultKind::kLost}, 1);
  EXPECT_EQ(Write(0, New().first(kBlockBytes)).ToString(), "ok");
  EXPECT_EQ(NumNewSectors(), 0u);
}

TEST_P(FaultEngineTest, ATornWriteIsReportedAsDoneAndSomeSectorsAreNot) {
  bool saw_prefix = false, saw_holes = false;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    Use({.seed = seed});
    ASSERT_EQ(Write(0, Old()).ToString(), "ok");
    engine_->SpoilWrite({FaultKind::kTorn}, 1);
    EXPECT_EQ(Write(0, New().first(kBlockBytes)).ToString(), "ok");
    std::vector<bool> sectors = NewSectors();
    uint64_t num_new = static_cast<uint64_t>(std::ranges::count(sectors, true));
    EXPECT_LT(num_new, kBlockBytes / 512);
    (std::ranges::is_partitioned(sectors, std::identity()) ? saw_prefix : saw_holes) = true;
  }
  EXPECT_TRUE(saw_prefix && saw_holes);
}

TEST_P(FaultEngineTest, AFlippedBitIsOneBit) {
  engine_->SpoilWrite({FaultKind::kFlipped}, 1);
  engine_->SpoilRead({FaultKind::kFlipped}, 3);
  EXPECT_EQ(Write(kBlockBytes, New().subspan(0, kBlockBytes)).ToString(), "ok");
  ASSERT_TRUE(Read(kBlockBytes, Into().first(kBlockBytes)).ok());
  EXPECT_EQ(std::popcount(static_cast<unsigned>(Into()[0] ^ New()[0])), 1);
  EXPECT_TRUE(
      std::ranges::equal(Into().subspan(1, kBlockBytes - 1), New().subspan(1, kBlockBytes - 1)));
  ASSERT_TRUE(Read(0, Into().first(kBlockBytes)).ok());
  EXPECT_EQ(Into()[0], Old()[0]);
  ASSERT_TRUE(Read(0, Into().first(kBlockBytes)).ok());
  EXPECT_EQ(std::popcount(static_cast<unsigned>(Into()[0] ^ Old()[0])), 1);
}

TEST_P(FaultEngineTest, TheSameSeedAndRequestsMeetTheSameFaults) {
  auto run = [&](uint64_t seed) {
    Use({.seed = seed,
         .chances = {{IoDirection::kRead, {FaultKind::kShort}, 0.2},
                     {IoDirection::kWrite, {FaultKind::kTorn}, 0.2},
                     {IoDirection::kWrite, {.error_number = ENOSPC}, 0.1},
                     {IoDirection::kWrite, {FaultKind::kReordered}, 0.2}}});
    std::vector<Code> codes;
    for (uint64_t i = 0; i < 20; ++i) {
      codes.push_back(Write(i * 8_KiB, New().first(64_KiB)).code());
      codes.push_back(Read(i * 8_KiB, Into().first(64_KiB)).code());
    }
    return codes;
  };
  // A write that fails leaves out what it has not started: how much that is the threads decide, and
  // it must not matter.
  EXPECT_EQ(run(7), run(7));
  EXPECT_NE(run(7), run(8));
}

TEST_P(FaultEngineTest, TheSameSeedAndRequestsAreTakenDownAlike) {
  auto run = [&](uint64_t seed) {
    Use({.seed = seed,
         .chances = {{IoDirection::kRead, {FaultKind::kFlipped}, 0.2},
                     {IoDirection::kRead, {FaultKind::kShort}, 0.2},
                     {IoDirection::kWrite, {FaultKind::kTorn}, 0.2},
                     {IoDirection::kWrite, {FaultKind::kLost}, 0.2}}});
    for (uint64_t i = 0; i < 10; ++i) {
      EXPECT_TRUE(Write(i * 8_KiB, New().first(128_KiB)).ok());
      EXPECT_TRUE(Read(i * 8_KiB, Into().first(128_KiB)).ok());
    }
    std::vector<InjectedFault> injected = engine_->plan().injected();
    std::ranges::sort(injected, {}, [](const InjectedFault& fault) {
      return std::tuple(fault.direction, fault.offset_bytes, fault.length_bytes, fault.fault.kind);
    });
    return injected;
  };
  EXPECT_EQ(run(7), run(7));
  EXPECT_NE(run(7), run(8));
}

TEST_P(FaultEngineTest, ARealFailureIsPassedOn) {
  EXPECT_EQ(Read(kFileBytes, Into().first(4_KiB)).message(),
            "read " + file_.path() +
                " offset_bytes=262144 length_bytes=4096: the file ends at or before byte 262144");
  aio::File read_only = OrDie(aio::File::Open(file_.path(), {}));
  EXPECT_THAT(engine_->StartWrite(read_only, 0, New()).Wait().message(),
              HasSubstr("Bad file descriptor"));
}

TEST_P(FaultEngineTest, GoesDownWithRequestsInFlight) {
  Use({.chances = {{IoDirection::kWrite, {FaultKind::kDelayed}, 0.5}}});
  std::atomic<int> calls = 0;
  aio::IoTicket ticket = engine_->StartWrite(file_, 0, New(), {.done = [&] { ++calls; }});
  engine_.reset();
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(ticket.Wait().ToString(), "ok");
}

}  // namespace
}  // namespace strata::fakes
