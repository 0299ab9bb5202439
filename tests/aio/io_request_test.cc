// How requests are cut, resumed, repeated and ended, with the kernel's answers made up here.
#include "aio/internal/io_request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "aio/internal/retry.h"

namespace strata::aio {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Next = IoPiece::Next;

class IoRequestTest : public testing::Test {
 protected:
  std::shared_ptr<IoRequest> Request(uint64_t offset_bytes, size_t length_bytes,
                                     IoDirection direction = IoDirection::kRead) {
    IoSegment segment = Segment(offset_bytes, length_bytes);
    return Request({segment}, direction);
  }
  std::shared_ptr<IoRequest> Request(std::vector<IoSegment> segments, IoDirection direction) {
    return std::make_shared<IoRequest>(IoRequestOptions{.direction = direction,
                                                        .segments = std::move(segments),
                                                        .block_size_bytes = 16_KiB,
                                                        .chunks = chunks_,
                                                        .deadline = deadline_,
                                                        .done = [this] { ++num_done_; }});
  }
  IoSegment Segment(uint64_t offset_bytes, size_t length_bytes) {
    return {.path = path_,
            .fd = 3,
            .tail_fd = 4,
            .offset_bytes = offset_bytes,
            .memory = memory_.data(),
            .length_bytes = length_bytes,
            .offset_alignment_bytes = 4096,
            .memory_alignment_bytes = 4096};
  }
  IoPiece OnlyPiece(IoDirection direction = IoDirection::kRead) {
    request_ = Request(8_KiB, 16_KiB, direction);
    return std::move(*request_->CutPiece());
  }
  static std::vector<uint64_t> CutAll(IoRequest& request) {
    std::vector<uint64_t> lengths;
    while (std::optional<IoPiece> piece = request.CutPiece())
      lengths.push_back(piece->transfer().length_bytes);
    return lengths;
  }

  std::vector<std::byte> memory_ = std::vector<std::byte>(64_KiB);
  std::shared_ptr<const std::string> path_ = std::make_shared<const std::string>("/nvme0/x");
  MemoryChunks chunks_;
  SteadyTime deadline_ = SteadyTime::max();
  std::shared_ptr<IoRequest> request_;
  int num_done_ = 0;
};

TEST_F(IoRequestTest, PiecesCoverTheRequestInOrder) {
  std::shared_ptr<IoRequest> request = Request(4_KiB, 40_KiB);
  uint64_t covered_bytes = 0;
  while (std::optional<IoPiece> piece = request->CutPiece()) {
    EXPECT_EQ(piece->transfer().offset_bytes, 4_KiB + covered_bytes);
    EXPECT_EQ(piece->transfer().memory, memory_.data() + covered_bytes);
    EXPECT_LE(piece->transfer().length_bytes, 16_KiB);
    covered_bytes += piece->transfer().length_bytes;
  }
  EXPECT_EQ(covered_bytes, 40_KiB);
}

TEST_F(IoRequestTest, NoPieceCrossesTheBordersOfRegisteredMemory) {
  chunks_ = MemoryChunks(std::span(memory_).subspan(4_KiB, 40_KiB), 20_KiB);
  // Registered: [4, 24) and [24, 44) KiB.
  EXPECT_THAT(CutAll(*Request(0, 64_KiB)),
              ElementsAre(4_KiB, 16_KiB, 4_KiB, 16_KiB, 4_KiB, 16_KiB, 4_KiB));
}

TEST_F(IoRequestTest, AWholeTransferFinishes) {
  IoPiece piece = OnlyPiece();
  EXPECT_EQ(piece.OnResult(16_KiB), Next::kFinish);
  EXPECT_TRUE(piece.status().ok());
}

TEST_F(IoRequestTest, AShortTransferIsResumedWhereItStopped) {
  IoPiece piece = OnlyPiece();
  EXPECT_EQ(piece.OnResult(4_KiB), Next::kRepeat);
  EXPECT_EQ(piece.transfer().offset_bytes, 12_KiB);
  EXPECT_EQ(piece.transfer().memory, memory_.data() + 4_KiB);
  EXPECT_EQ(piece.transfer().length_bytes, 12_KiB);
  EXPECT_EQ(piece.OnResult(12_KiB), Next::kFinish);
  EXPECT_TRUE(piece.status().ok());
}

TEST_F(IoRequestTest, ATransferThatStopsInsideABlockIsResumedFromTheLastAlignedPlace) {
  for (IoDirection direction : {IoDirection::kRead, IoDirection::kWrite}) {
    IoPiece piece = OnlyPiece(direction);
    EXPECT_EQ(piece.OnResult(4_KiB + 1000), Next::kRepeat);
    EXPECT_EQ(piece.transfer().offset_bytes, 12_KiB);
    EXPECT_EQ(piece.transfer().length_bytes, 12_KiB);
    EXPECT_EQ(piece.OnResult(12_KiB), Next::kFinish);
    EXPECT_TRUE(piece.status().ok());
  }
}

TEST_F(IoRequestTest, AReadThatStopsTwiceAtTheSameOddPlaceHasFoundTheEndOfTheFile) {
  IoPiece piece = OnlyPiece();
  EXPECT_EQ(piece.OnResult(4_KiB + 1000), Next::kRepeat);
  EXPECT_EQ(piece.OnResult(1000), Next::kFinish);
  EXPECT_EQ(piece.status().code(), Code::kDataLoss);
  EXPECT_THAT(piece.status().message(), HasSubstr("the file ends at or before byte 13288"));
}

TEST_F(IoRequestTest, NothingReadIsTheEndOfTheFile) {
  IoPiece piece = OnlyPiece();
  EXPECT_EQ(piece.OnResult(8_KiB), Next::kRepeat);
  EXPECT_EQ(piece.OnResult(0), Next::kFinish);
  EXPECT_EQ(piece.status().code(), Code::kDataLoss);
  EXPECT_EQ(piece.status().message(),
            "read /nvme0/x offset_bytes=8192 length_bytes=16384: "
            "the file ends at or before byte 16384");
}

TEST_F(IoRequestTest, NothingWrittenIsAnError) {
  IoPiece piece = OnlyPiece(IoDirection::kWrite);
  EXPECT_EQ(piece.OnResult(0), Next::kFinish);
  EXPECT_EQ(piece.status().code(), Code::kIoError);
}

TEST_F(IoRequestTest, AWriteThatNeverGetsPastABlockIsAnErrorInTheEnd) {
  IoPiece piece = OnlyPiece(IoDirection::kWrite);
  int repeats = 0;
  while (piece.OnResult(100) == Next::kRepeat) ++repeats;
  EXPECT_EQ(repeats, kMaxRetries);
  EXPECT_EQ(piece.status().code(), Code::kIoError);
}

TEST_F(IoRequestTest, InterruptionsAreRepeatedWithABound) {
  for (int error_number : {EINTR, EAGAIN}) {
    IoPiece piece = OnlyPiece();
    for (int i = 0; i < kMaxRetries; ++i) EXPECT_EQ(piece.OnResult(-error_number), Next::kRepeat);
    EXPECT_EQ(piece.OnResult(-error_number), Next::kFinish);
    EXPECT_FALSE(piece.status().ok());
  }
}

TEST_F(IoRequestTest, ProgressStartsTheBoundAnew) {
  IoPiece piece = OnlyPiece();
  for (int i = 0; i < kMaxRetries; ++i) EXPECT_EQ(piece.OnResult(-EINTR), Next::kRepeat);
  EXPECT_EQ(piece.OnResult(4_KiB), Next::kRepeat);
  for (int i = 0; i < kMaxRetries; ++i) EXPECT_EQ(piece.OnResult(-EINTR), Next::kRepeat);
  EXPECT_EQ(piece.OnResult(12_KiB), Next::kFinish);
  EXPECT_TRUE(piece.status().ok());
}

TEST_F(IoRequestTest, AnErrorNamesTheWholeRequest) {
  std::shared_ptr<IoRequest> request = Request(4_KiB, 40_KiB, IoDirection::kWrite);
  IoPiece first = *request->CutPiece();
  IoPiece second = *request->CutPiece();
  EXPECT_EQ(second.OnResult(-ENOSPC), Next::kFinish);
  EXPECT_EQ(second.status().code(), Code::kResourceExhausted);
  EXPECT_EQ(second.status().message(),
            "write /nvme0/x offset_bytes=4096 length_bytes=40960: No space left on device");
}

TEST_F(IoRequestTest, ADriveThatTimesOutHasFailedAndIsNotADeadlineOfOurs) {
  IoPiece piece = OnlyPiece();
  EXPECT_EQ(piece.OnResult(-ETIMEDOUT), Next::kFinish);
  EXPECT_EQ(piece.status().code(), Code::kIoError);
}

TEST_F(IoRequestTest, TheRequestIsReadyWithItsLastPieceInAnyOrder) {
  std::shared_ptr<IoRequest> request = Request(0, 32_KiB);
  IoPiece first = *request->CutPiece();
  first.request().Finish(OkStatus());
  EXPECT_FALSE(request->ready());  // one piece has not been cut
  IoPiece second = *request->CutPiece();
  EXPECT_FALSE(request->ready());
  second.request().Finish(OkStatus());
  EXPECT_TRUE(request->ready());
  EXPECT_EQ(num_done_, 1);
}

TEST_F(IoRequestTest, AfterAFailureNothingIsCutAndWhatIsOutIsWaitedFor) {
  std::shared_ptr<IoRequest> request = Request(0, 64_KiB);
  IoPiece first = *request->CutPiece();
  IoPiece second = *request->CutPiece();
  first.request().Finish(DataLoss("the first failure"));
  EXPECT_FALSE(request->CutPiece().has_value());
  EXPECT_FALSE(request->ready());
  second.request().Finish(Internal("a later one"));
  EXPECT_TRUE(request->ready());
  EXPECT_EQ(request->WaitUntil(SteadyTime::min())->message(), "the first failure");
  EXPECT_EQ(num_done_, 1);
}

TEST_F(IoRequestTest, AWaitThatEndsEarlySaysWhatIsOutstanding) {
  std::shared_ptr<IoRequest> request = Request(0, 64_KiB);
  IoPiece piece = *request->CutPiece();
  EXPECT_FALSE(request->WaitUntil(SteadyTime::min()).has_value());
  EXPECT_EQ(request->Progress(), "1 pieces are with the kernel, 49152 bytes have not been started");
}

TEST_F(IoRequestTest, RangesAreCutInTheirOrderAndNamedInErrors) {
  std::shared_ptr<IoRequest> request =
      Request({Segment(0, 20_KiB), Segment(1_MiB, 8_KiB)}, IoDirection::kRead);
  std::vector<uint64_t> offsets;
  std::optional<IoPiece> last;
  while (std::optional<IoPiece> piece = request->CutPiece()) {
    offsets.push_back(piece->transfer().offset_bytes);
    last.emplace(std::move(*piece));
  }
  EXPECT_THAT(offsets, ElementsAre(0, 16_KiB, 1_MiB));
  EXPECT_EQ(last->OnResult(-EIO), Next::kFinish);
  EXPECT_EQ(last->status().message(),
            "read /nvme0/x offset_bytes=1048576 length_bytes=8192 (range 2 of 2): "
            "Input/output error");
}

TEST_F(IoRequestTest, TheLastBytesOfAReadLandInABlockOfTheirOwn) {
  std::shared_ptr<IoRequest> request = Request(8_KiB, 4_KiB + 100);
  EXPECT_EQ(request->CutPiece()->transfer().length_bytes, 4_KiB);
  IoPiece tail = std::move(*request->CutPiece());
  EXPECT_EQ(tail.transfer().fd, 3);
  EXPECT_EQ(tail.transfer().offset_bytes, 12_KiB);
  EXPECT_EQ(tail.transfer().length_bytes, 4_KiB);
  std::ranges::fill(memory_, std::byte{7});
  std::fill_n(tail.transfer().memory, 4_KiB, std::byte{9});
  EXPECT_EQ(tail.OnResult(300), Next::kFinish);  // the file ends there: enough
  EXPECT_EQ(memory_[4_KiB + 99], std::byte{9});
  EXPECT_EQ(memory_[4_KiB + 100], std::byte{7});
}

TEST_F(IoRequestTest, AFileThatEndsBeforeTheLastBytesIsDataLoss) {
  std::shared_ptr<IoRequest> request = Request(8_KiB, 100);
  IoPiece tail = std::move(*request->CutPiece());
  EXPECT_EQ(tail.OnResult(99), Next::kRepeat);
  EXPECT_EQ(tail.OnResult(99), Next::kFinish);
  EXPECT_EQ(tail.status().code(), Code::kDataLoss);
}

// The page, not the block: nothing that is written directly lies in a page of the page cache.
TEST_F(IoRequestTest, TheLastPageOfAWriteGoesThroughThePageCacheDurably) {
  IoSegment segment = Segment(8_KiB + 512, 4_KiB + 100);
  segment.offset_alignment_bytes = segment.memory_alignment_bytes = 512;
  std::shared_ptr<IoRequest> request = Request({segment}, IoDirection::kWrite);
  IoPiece body = std::move(*request->CutPiece());
  EXPECT_EQ(body.transfer().length_bytes, 3584u);
  EXPECT_FALSE(body.transfer().durable);
  IoPiece tail = std::move(*request->CutPiece());
  EXPECT_EQ(tail.transfer().fd, 4);
  EXPECT_EQ(tail.transfer().offset_bytes, 12_KiB);
  EXPECT_EQ(tail.transfer().length_bytes, 612u);
  EXPECT_TRUE(tail.transfer().durable);
  EXPECT_EQ(tail.OnResult(600), Next::kRepeat);  // resumed at any byte
  EXPECT_EQ(tail.transfer().offset_bytes, 12_KiB + 600);
  EXPECT_EQ(tail.OnResult(12), Next::kFinish);
}

TEST_F(IoRequestTest, CancellingStopsTheCuttingAndWaitsForWhatIsOut) {
  std::shared_ptr<IoRequest> request = Request(0, 64_KiB);
  IoPiece out = std::move(*request->CutPiece());
  request->EndEarly(request->Cancelled());
  EXPECT_FALSE(request->ready());
  EXPECT_FALSE(request->CutPiece().has_value());
  EXPECT_EQ(num_done_, 0);
  EXPECT_EQ(out.OnResult(16_KiB), Next::kFinish);
  request->Finish(out.status());
  EXPECT_EQ(num_done_, 1);
  EXPECT_EQ(request->WaitUntil(SteadyTime::min())->code(), Code::kCancelled);
}

TEST_F(IoRequestTest, CancellingBeforeAPieceIsOutEndsTheRequestAtOnceAndOnlyOnce) {
  std::shared_ptr<IoRequest> request = Request(0, 64_KiB);
  request->EndEarly(request->Cancelled());
  request->EndEarly(Internal("too late"));
  EXPECT_TRUE(request->ready());
  EXPECT_EQ(num_done_, 1);
  EXPECT_EQ(request->WaitUntil(SteadyTime::min())->code(), Code::kCancelled);
}

TEST_F(IoRequestTest, WhatIsOverStaysAsItEnded) {
  std::shared_ptr<IoRequest> request = Request(0, 4_KiB);
  request->Finish(request->CutPiece()->status());
  request->EndEarly(request->Cancelled());
  EXPECT_EQ(num_done_, 1);
  EXPECT_TRUE(request->WaitUntil(SteadyTime::min())->ok());
}

TEST_F(IoRequestTest, PastTheDeadlineAPieceComesOnlyToBeGivenBack) {
  deadline_ = SteadyTime::min();
  std::shared_ptr<IoRequest> request = Request(0, 64_KiB);
  std::optional<IoPiece> dead = request->CutPiece();
  ASSERT_TRUE(dead.has_value());
  EXPECT_EQ(dead->status().code(), Code::kDeadlineExceeded);
  EXPECT_FALSE(request->ready());
  request->Finish(dead->status());
  EXPECT_TRUE(request->ready());
  EXPECT_EQ(num_done_, 1);
}

}  // namespace
}  // namespace strata::aio
