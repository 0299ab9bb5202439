// How requests are cut, resumed, repeated and ended, with the kernel's answers made up here.
#include "aio/internal/io_request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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
    return std::make_shared<IoRequest>(
        IoRequestOptions{.transfer = {direction, 3, offset_bytes, memory_.data(), length_bytes},
                         .path = "/nvme0/x",
                         .alignment_bytes = 4096,
                         .block_size_bytes = 16_KiB,
                         .chunks = chunks_,
                         .done = [this] { ++num_done_; }});
  }
  IoPiece OnlyPiece(IoDirection direction = IoDirection::kRead) {
    request_ = Request(8_KiB, 16_KiB, direction);
    return *request_->CutPiece();
  }
  static std::vector<uint64_t> CutAll(IoRequest& request) {
    std::vector<uint64_t> lengths;
    while (std::optional<IoPiece> piece = request.CutPiece())
      lengths.push_back(piece->transfer().length_bytes);
    return lengths;
  }

  std::vector<std::byte> memory_ = std::vector<std::byte>(64_KiB);
  MemoryChunks chunks_;
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
  EXPECT_EQ(request->Wait(std::chrono::milliseconds(0))->message(), "the first failure");
  EXPECT_EQ(num_done_, 1);
}

TEST_F(IoRequestTest, AWaitThatEndsEarlySaysWhatIsOutstanding) {
  std::shared_ptr<IoRequest> request = Request(0, 64_KiB);
  IoPiece piece = *request->CutPiece();
  EXPECT_FALSE(request->Wait(std::chrono::milliseconds(0)).has_value());
  EXPECT_EQ(request->Progress(), "1 pieces are with the kernel, 49152 bytes have not been started");
}

}  // namespace
}  // namespace strata::aio
