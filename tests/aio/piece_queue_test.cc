// In which order pieces go to the kernel, and to which ring.
#include "aio/internal/piece_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "aio/internal/queue_feed.h"

namespace strata::aio {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::shared_ptr<IoRequest> Request(IoDirection direction, uint64_t offset_bytes, size_t num_pieces,
                                   IoPriority priority = IoPriority::kNormal) {
  IoSegment segment = {.path = std::make_shared<const std::string>("x"),
                       .fd = 3,
                       .offset_bytes = offset_bytes,
                       .length_bytes = num_pieces * 4_KiB,
                       .offset_alignment_bytes = 4096};
  return std::make_shared<IoRequest>(IoRequestOptions{.direction = direction,
                                                      .segments = {segment},
                                                      .block_size_bytes = 4_KiB,
                                                      .priority = priority});
}
std::shared_ptr<IoRequest> Read(uint64_t offset_bytes, size_t num_pieces) {
  return Request(IoDirection::kRead, offset_bytes, num_pieces);
}
std::shared_ptr<IoRequest> Write(uint64_t offset_bytes, size_t num_pieces) {
  return Request(IoDirection::kWrite, offset_bytes, num_pieces);
}

std::vector<uint64_t> TakeOffsets(PieceQueue& queue) {
  std::vector<uint64_t> offsets;
  while (std::optional<IoPiece> piece = queue.Take())
    offsets.push_back(piece->transfer().offset_bytes);
  return offsets;
}

TEST(PieceQueueTest, ReadsAndWritesTakeTurns) {
  PieceQueue queue(4_KiB);
  queue.Push(Read(0, 4));
  queue.Push(Write(1_MiB, 3));
  EXPECT_THAT(TakeOffsets(queue),
              ElementsAre(0, 1_MiB, 4_KiB, 1_MiB + 4_KiB, 8_KiB, 1_MiB + 8_KiB, 12_KiB));
}

TEST(PieceQueueTest, TheHighestPriorityGoesFirst) {
  PieceQueue queue(4_KiB);
  queue.Push(Request(IoDirection::kWrite, 3_MiB, 1, IoPriority::kBackground));
  queue.Push(Request(IoDirection::kWrite, 1_MiB, 2, IoPriority::kNormal));
  EXPECT_EQ(queue.Take()->transfer().offset_bytes, 1_MiB);
  queue.Push(Request(IoDirection::kRead, 0, 2, IoPriority::kUrgent));
  EXPECT_THAT(TakeOffsets(queue), ElementsAre(0, 4_KiB, 1_MiB + 4_KiB, 3_MiB));
}

TEST(PieceQueueTest, WhatWasCancelledIsNotTaken) {
  PieceQueue queue(4_KiB);
  std::shared_ptr<IoRequest> cancelled = Read(0, 3);
  queue.Push(cancelled);
  queue.Push(Read(1_MiB, 1));
  std::optional<IoPiece> first = queue.Take();
  cancelled->EndEarly(cancelled->Cancelled());
  EXPECT_THAT(TakeOffsets(queue), ElementsAre(1_MiB));
  EXPECT_EQ(queue.num_pieces(), 0u);
}

TEST(PieceQueueTest, AmongReadsTheOldestGoesFirst) {
  PieceQueue queue(4_KiB);
  queue.Push(Read(1_MiB, 2));
  queue.Push(Read(0, 1));
  EXPECT_THAT(TakeOffsets(queue), ElementsAre(1_MiB, 1_MiB + 4_KiB, 0));
}

TEST(PieceQueueTest, WhatAFailedRequestHasNotStartedIsDropped) {
  PieceQueue queue(4_KiB);
  std::shared_ptr<IoRequest> failing = Read(0, 4);
  queue.Push(failing);
  queue.Push(Read(1_MiB, 1));
  IoPiece piece = *queue.Take();
  failing->Finish(DataLoss("gone"));
  EXPECT_THAT(TakeOffsets(queue), ElementsAre(1_MiB));
  EXPECT_EQ(queue.num_pieces(), 0u);
}

TEST(QueueFeedTest, OneRingTakesAllItHasRoomFor) {
  QueueFeed feed(4_KiB, 1);
  EXPECT_THAT(feed.Push(Read(0, 10)), IsEmpty());
  QueueFeed::Portion portion = feed.Take(0, 8);
  EXPECT_EQ(portion.pieces.size(), 8u);
  EXPECT_FALSE(portion.more);  // no room
  EXPECT_EQ(feed.Take(0, 8).pieces.size(), 2u);
}

TEST(QueueFeedTest, SeveralQueuesShareARequest) {
  QueueFeed feed(4_KiB, 4);
  EXPECT_THAT(feed.Push(Read(0, 8)), IsEmpty());
  QueueFeed::Portion portion = feed.Take(0, 8);
  EXPECT_EQ(portion.pieces.size(), 2u);
  EXPECT_TRUE(portion.more);  // were the others asleep, this ring would take all in the end
}

TEST(QueueFeedTest, OnlyQueuesThatFoundNothingAreWoken) {
  QueueFeed feed(4_KiB, 3);
  EXPECT_TRUE(feed.Take(0, 8).pieces.empty());
  EXPECT_TRUE(feed.Take(1, 0).pieces.empty());  // it has no room, not nothing to do
  EXPECT_THAT(feed.Push(Read(0, 1)), ElementsAre(0));
  EXPECT_THAT(feed.Push(Read(0, 1)), IsEmpty());  // it has been woken
}

TEST(QueueFeedTest, StoppingComesAfterTheWork) {
  QueueFeed feed(4_KiB, 1);
  EXPECT_THAT(feed.Push(Read(0, 2)), IsEmpty());
  feed.Stop();
  EXPECT_FALSE(feed.Take(0, 1).stopping);
  EXPECT_TRUE(feed.Take(0, 1).stopping);
}

}  // namespace
}  // namespace strata::aio
