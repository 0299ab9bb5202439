#include "tiering/block_store.h"

#include <filesystem>
#include <fstream>
#include <future>
#include <set>
#include <thread>

#include "tests/tiering/store_fixture.h"

namespace strata::tiering {
namespace {

using testing::HasSubstr;

uint64_t SumOfFileSizes(const std::string& folder) {
  uint64_t bytes = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    if (entry.path().string().find(".blocks") != std::string::npos) bytes += entry.file_size();
  return bytes;
}

std::set<std::string> NamesIn(const std::string& folder) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    names.insert(entry.path().filename());
  return names;
}

std::vector<uint64_t> Numbers(const std::vector<Generation>& generations) {
  std::vector<uint64_t> numbers;
  for (const Generation& generation : generations) numbers.push_back(generation.number);
  return numbers;
}

TEST_F(StoreTest, ABlockIsReadAsItWasWrittenWithoutACommit) {
  ASSERT_TRUE(Create(Options()).ok());
  EXPECT_FALSE(store_->HasVersion(StoreBlock{0}));
  ASSERT_TRUE(store_.Write(0, 1).ok());
  ASSERT_TRUE(store_.Write(2, 2).ok());
  EXPECT_TRUE(store_->HasVersion(StoreBlock{0}));
  EXPECT_TRUE(store_.Holds(0, 1));
  EXPECT_TRUE(store_.Holds(2, 2));
}

TEST_F(StoreTest, ReadingABlockThatWasNeverWrittenIsNotFoundAndNamesIt) {
  ASSERT_TRUE(Create(Options()).ok());
  bool done = false;
  StoreTicket ticket = store_->StartRead(StoreBlock{1}, store_.Padded(1), [&done] { done = true; });
  EXPECT_TRUE(done);
  EXPECT_TRUE(ticket.ready());
  Status status = ticket.Finish();
  EXPECT_EQ(status.code(), Code::kNotFound);
  EXPECT_THAT(status.message(), HasSubstr("'b'"));
}

TEST_F(StoreTest, TheFileIsAsLongFromTheStartAsPlannedAndStaysSo) {
  uint64_t reported = 0, total = 0;
  BlockStoreOptions options = Options(3);
  options.on_initialise = [&](uint64_t done_bytes, uint64_t total_bytes) {
    EXPECT_GT(done_bytes, reported);
    reported = done_bytes;
    total = total_bytes;
  };
  uint64_t planned = StoreCapacityBytes(store_.blocks(), 3);
  EXPECT_EQ(planned, 3 * (12_KiB + 4_KiB) + 8_KiB);
  ASSERT_TRUE(Create(options).ok());
  EXPECT_EQ(store_->capacity_bytes(), planned);
  EXPECT_EQ(SumOfFileSizes(Folder()), planned);
  EXPECT_EQ(reported, planned);
  EXPECT_EQ(total, planned);
  for (uint64_t seed = 0; seed < 10; ++seed) CommitSeeds(seed);
  EXPECT_EQ(SumOfFileSizes(Folder()), planned);
}

TEST_F(StoreTest, RollbackGoesBackToTheLastCommitButKeepsScratch) {
  ASSERT_TRUE(Create(Options()).ok());
  CommitSeeds(1);
  ASSERT_TRUE(store_.Write(0, 2).ok());
  ASSERT_TRUE(store_.Write(0, 3).ok());
  ASSERT_TRUE(store_.Write(2, 4).ok());
  EXPECT_TRUE(store_.Holds(0, 3));
  store_->Rollback();
  EXPECT_TRUE(HoldsSeeds(1));
  EXPECT_TRUE(store_.Holds(2, 4));
}

TEST_F(StoreTest, RollbackBeforeTheFirstCommitForgetsAll) {
  ASSERT_TRUE(Create(Options()).ok());
  ASSERT_TRUE(store_.Write(0, 1).ok());
  store_->Rollback();
  EXPECT_FALSE(store_->HasVersion(StoreBlock{0}));
  EXPECT_EQ(store_->counters().live_bytes, 0u);
}

TEST_F(StoreTest, OpeningGivesTheLastCommitAndItsMetadata) {
  ASSERT_TRUE(Create(Options()).ok());
  CommitSeeds(1);
  EXPECT_EQ(CommitSeeds(2), 2u);
  ASSERT_TRUE(store_.Write(0, 3).ok());
  uint64_t writes = engine_.num_writes();
  ASSERT_TRUE(Open(Options()).ok());
  EXPECT_EQ(engine_.num_writes(), writes) << "opening must not initialise again";
  EXPECT_TRUE(HoldsSeeds(2));
  ASSERT_EQ(store_->generations().size(), 1u);
  EXPECT_EQ(store_->generations()[0].metadata, "seed 2");
  EXPECT_EQ(CommitSeeds(3), 3u);
}

TEST_F(StoreTest, ABlockNeverWrittenIsNotWrittenAfterOpeningEither) {
  ASSERT_TRUE(Create(Options()).ok());
  ASSERT_TRUE(store_.Write(1, 1).ok());
  ASSERT_TRUE(store_->Commit("", false).ok());
  ASSERT_TRUE(Open(Options()).ok());
  EXPECT_FALSE(store_->HasVersion(StoreBlock{0}));
  EXPECT_TRUE(store_.Holds(1, 1));
}

TEST_F(StoreTest, APinnedGenerationStaysUntilItIsReleased) {
  ASSERT_TRUE(Create(Options(3)).ok());
  uint64_t kept = CommitSeeds(1, true);
  for (uint64_t seed = 2; seed < 6; ++seed) CommitSeeds(seed);
  EXPECT_THAT(Numbers(store_->generations()), testing::ElementsAre(kept, 5));
  ASSERT_TRUE(Open(Options(3), kept).ok());
  EXPECT_TRUE(HoldsSeeds(1));
  ASSERT_TRUE(Open(Options(3)).ok());
  EXPECT_TRUE(HoldsSeeds(5));
  uint64_t before = store_->counters().live_bytes;
  ASSERT_TRUE(store_->Release(kept).ok());
  EXPECT_EQ(before - store_->counters().live_bytes, 16_KiB);
  EXPECT_EQ(store_->Release(kept).code(), Code::kNotFound);
  EXPECT_THAT(Numbers(store_->generations()), testing::ElementsAre(5));
  EXPECT_EQ(Open(Options(3), kept).code(), Code::kNotFound);
}

TEST_F(StoreTest, ReleasingTheNewestGenerationKeepsItUntilTheNextCommit) {
  ASSERT_TRUE(Create(Options()).ok());
  uint64_t newest = CommitSeeds(1, true);
  ASSERT_TRUE(store_->Release(newest).ok());
  ASSERT_TRUE(Open(Options()).ok());
  EXPECT_TRUE(HoldsSeeds(1));
  EXPECT_FALSE(store_->generations()[0].pinned);
  CommitSeeds(2);
  EXPECT_THAT(Numbers(store_->generations()), testing::ElementsAre(2));
}

TEST_F(StoreTest, WithoutRoomForOneMorePinTheWriteSaysWhatToDoAndNothingIsLost) {
  ASSERT_TRUE(Create(Options(2)).ok());
  CommitSeeds(1, true);
  CommitSeeds(2, true);
  Status status = store_.Write(0, 3);
  EXPECT_EQ(status.code(), Code::kResourceExhausted);
  EXPECT_THAT(status.message(), HasSubstr("'a'"));
  EXPECT_THAT(status.message(), HasSubstr("release a pinned one"));
  EXPECT_TRUE(HoldsSeeds(2));
  ASSERT_TRUE(store_->Release(1).ok());
  EXPECT_TRUE(store_.Write(0, 3).ok());
}

TEST_F(StoreTest, OpeningWithMoreGenerationsAndOtherScratchMakesRoomForThem) {
  ASSERT_TRUE(Create(Options(2)).ok());
  CommitSeeds(1, true);
  store_.Reset();
  StoreUser wider({Durable("b", 4096), Scratch("t", 40000), Durable("a", 10000)});
  wider.Reset(OrDie(BlockStore::Open(Options(4), wider.blocks(), &engine_)));
  EXPECT_EQ(wider->capacity_bytes(), StoreCapacityBytes(wider.blocks(), 4));
  for (uint64_t seed = 2; seed < 4; ++seed) {
    ASSERT_TRUE(wider.Write(0, seed).ok());
    ASSERT_TRUE(wider.Write(1, seed).ok());
    ASSERT_TRUE(wider.Write(2, seed).ok());
    ASSERT_TRUE(wider->Commit("", true).ok());
  }
  EXPECT_TRUE(wider.Holds(1, 3));
  wider.Reset();
  ASSERT_TRUE(Open(Options(4), 1).ok());
  EXPECT_TRUE(HoldsSeeds(1));
}

TEST_F(StoreTest, ACommitAfterOpeningAnOlderGenerationEndsTheLaterOnes) {
  ASSERT_TRUE(Create(Options(4)).ok());
  for (uint64_t seed = 1; seed < 4; ++seed) CommitSeeds(seed, true);
  ASSERT_TRUE(Open(Options(4), 1).ok());
  ASSERT_TRUE(store_.Write(0, 50).ok());
  ASSERT_TRUE(Open(Options(4)).ok());
  EXPECT_TRUE(HoldsSeeds(3)) << "before the commit nothing is lost";
  ASSERT_TRUE(Open(Options(4), 1).ok());
  EXPECT_EQ(CommitSeeds(60), 4u);
  EXPECT_THAT(Numbers(store_->generations()), testing::ElementsAre(1, 4));
  ASSERT_TRUE(Open(Options(4)).ok());
  EXPECT_TRUE(HoldsSeeds(60));
}

TEST_F(StoreTest, RollbackAfterOpeningAnOlderGenerationGoesBackToThatOne) {
  ASSERT_TRUE(Create(Options(3)).ok());
  CommitSeeds(1, true);
  CommitSeeds(2);
  ASSERT_TRUE(Open(Options(3), 1).ok());
  ASSERT_TRUE(store_.Write(0, 9).ok());
  store_->Rollback();
  EXPECT_TRUE(HoldsSeeds(1));
}

TEST_F(StoreTest, AScratchBlockIsOverwrittenInPlaceAndForgottenOnDiscard) {
  ASSERT_TRUE(Create(Options()).ok());
  for (uint64_t seed = 0; seed < 5; ++seed) ASSERT_TRUE(store_.Write(2, seed).ok());
  EXPECT_TRUE(store_.Holds(2, 4));
  EXPECT_EQ(store_->counters().peak_bytes, 8_KiB);
  store_->Discard(StoreBlock{2});
  EXPECT_FALSE(store_->HasVersion(StoreBlock{2}));
  EXPECT_EQ(store_->counters().live_bytes, 0u);
}

TEST_F(StoreTest, AWriteWhoseTicketIsDroppedDoesNotCount) {
  ASSERT_TRUE(Create(Options()).ok());
  CommitSeeds(1);
  store_->StartWrite(StoreBlock{0}, store_.Padded(0));
  EXPECT_TRUE(HoldsSeeds(1));
  EXPECT_EQ(store_->counters().live_bytes, 16_KiB);
}

TEST_F(StoreTest, ThePaddingIsNotPartOfTheChecksum) {
  ASSERT_TRUE(Create(Options()).ok());
  std::span<std::byte> memory = store_.Padded(0);
  std::ranges::fill(memory, std::byte{1});
  StoreTicket write = store_->StartWrite(StoreBlock{0}, memory);
  ASSERT_TRUE(write.Finish().ok());
  std::vector<std::byte> content = OrDie(store_.Read(0));
  EXPECT_TRUE(std::ranges::all_of(content, [](std::byte byte) { return byte == std::byte{1}; }));
  EXPECT_EQ(content.size(), 10000u);
}

TEST_F(StoreTest, PartsOfABlockAreReadForExport) {
  ASSERT_TRUE(Create(Options()).ok());
  ASSERT_TRUE(store_.Write(0, 1).ok());
  std::vector<std::byte> whole = BytesOf(1, 10000);
  std::span<std::byte> part = store_.Padded(0).first(4_KiB);
  ASSERT_TRUE(store_->ReadRange(StoreBlock{0}, 4_KiB, part).ok());
  EXPECT_TRUE(std::ranges::equal(part, std::span(whole).subspan(4_KiB, 4_KiB)));
  ASSERT_TRUE(store_->ReadRange(StoreBlock{0}, 8_KiB, part).ok());
  EXPECT_TRUE(std::ranges::equal(part.first(10000 - 8_KiB), std::span(whole).subspan(8_KiB)));
  EXPECT_EQ(store_->ReadRange(StoreBlock{1}, 0, part).code(), Code::kNotFound);
}

// In memory for less than the block: pieces of any size, and the last one is shorter.
TEST_F(StoreTest, ABlockIsCheckedInPieces) {
  ASSERT_TRUE(Create(Options()).ok());
  ASSERT_TRUE(store_.Write(0, 1).ok());
  for (uint64_t piece_bytes : {4_KiB, 8_KiB, 12_KiB}) {
    const Status status = store_->Check(StoreBlock{0}, store_.Padded(0).first(piece_bytes));
    EXPECT_TRUE(status.ok()) << status.ToString();
  }
  EXPECT_EQ(store_->Check(StoreBlock{1}, store_.Padded(1)).code(), Code::kNotFound);
}

TEST_F(StoreTest, AHeldStoreIsKeptFromOthers) {
  ASSERT_TRUE(Create(Options()).ok());
  CommitSeeds(1);
  EXPECT_EQ(StoreHold::Acquire({dir_.path()}, "test", 0).status().code(),
            Code::kFailedPrecondition);
  store_.Reset();
  {
    StoreHold hold = OrDie(StoreHold::Acquire({dir_.path()}, "test", 0));
    EXPECT_EQ(Open(Options()).code(), Code::kFailedPrecondition);
    EXPECT_EQ(BlockStore::Remove({dir_.path()}, "test", 0).code(), Code::kFailedPrecondition);
    BlockStoreOptions options = Options();
    options.read_only = true;
    EXPECT_TRUE(Open(options).ok());
  }
  EXPECT_TRUE(Open(Options()).ok());
}

TEST_F(StoreTest, TheStoresOfAllRanksAreRemovedAndNothingElse) {
  for (uint32_t rank : {0u, 3u, 11u}) {
    BlockStoreOptions options = Options();
    options.rank = rank;
    ASSERT_TRUE(Create(options).ok());
    if (rank != 3) CommitSeeds(rank);
  }
  store_.Reset();
  std::ofstream(Folder() + "/rank-notes") << "not ours";
  ASSERT_TRUE(BlockStore::RemoveAll({dir_.path()}, "test").ok());
  EXPECT_EQ(NamesIn(Folder()), std::set<std::string>{"rank-notes"});
  std::filesystem::remove(Folder() + "/rank-notes");
  EXPECT_TRUE(BlockStore::RemoveAll({dir_.path()}, "test").ok());
}

TEST_F(StoreTest, SeveralBlocksAreWrittenAndReadAtOnceFromSeveralThreads) {
  std::vector<BlockDescription> blocks;
  for (int i = 0; i < 32; ++i) blocks.push_back(Durable("b" + std::to_string(i), 20000));
  auto store = OrDie(BlockStore::Create(Options(), blocks, &engine_));
  std::vector<std::jthread> threads;
  std::atomic<int> right = 0;
  for (uint32_t thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      auto memory = OrDie(aio::HugeMemory::Map(20_KiB));
      for (uint32_t block = thread; block < 32; block += 4) {
        std::vector<std::byte> bytes = BytesOf(block, 20000);
        std::ranges::copy(bytes, memory.bytes().begin());
        EXPECT_TRUE(store->StartWrite(StoreBlock{block}, memory.bytes()).Finish().ok());
        std::ranges::fill(memory.bytes(), std::byte{0});
        EXPECT_TRUE(store->StartRead(StoreBlock{block}, memory.bytes()).Finish().ok());
        right += std::ranges::equal(memory.bytes().first(20000), bytes);
      }
    });
  }
  threads.clear();
  EXPECT_EQ(right.load(), 32);
  EXPECT_EQ(store->counters().bytes_written, 32 * 20_KiB);
}

TEST_F(StoreTest, DoneIsCalledOnceTheTicketIsReady) {
  ASSERT_TRUE(Create(Options()).ok());
  std::promise<void> done;
  StoreTicket ticket =
      store_->StartWrite(StoreBlock{0}, store_.Padded(0), [&done] { done.set_value(); });
  done.get_future().wait();
  EXPECT_TRUE(ticket.ready());
  EXPECT_TRUE(ticket.Finish().ok());
  EXPECT_FALSE(ticket.valid());
}

TEST_F(StoreTest, BytesCommitsAndManifestsAreCounted) {
  ASSERT_TRUE(Create(Options()).ok());
  CommitSeeds(1);
  EXPECT_TRUE(HoldsSeeds(1));
  StoreCounters counters = store_->counters();
  EXPECT_EQ(counters.bytes_written, 16_KiB);
  EXPECT_EQ(counters.bytes_read, 16_KiB);
  EXPECT_EQ(counters.commits, 1u);
  EXPECT_EQ(counters.manifest_bytes, std::filesystem::file_size(Folder() + "/rank-0.manifest-1"));
}

TEST_F(StoreTest, SeveralDirectoriesShareTheBytesEvenly) {
  TempDir second;
  BlockStoreOptions options = Options();
  options.directories.push_back(second.path());
  std::vector<BlockDescription> blocks;
  for (int i = 0; i < 8; ++i) blocks.push_back(Durable("b" + std::to_string(i), 8_KiB));
  StoreUser user(blocks);
  user.Reset(OrDie(BlockStore::Create(options, blocks, &engine_)));
  EXPECT_EQ(SumOfFileSizes(Folder()), 64_KiB);
  EXPECT_EQ(SumOfFileSizes(second.path() + "/strata-test"), 64_KiB);
  for (uint32_t block = 0; block < 8; ++block) ASSERT_TRUE(user.Write(block, block).ok());
  ASSERT_TRUE(user->Commit("", false).ok());
  user.Reset(OrDie([&] {
    user.Reset();
    return BlockStore::Open(options, blocks, &engine_);
  }()));
  for (uint32_t block = 0; block < 8; ++block) EXPECT_TRUE(user.Holds(block, block));
  user.Reset();

  std::swap(options.directories[0], options.directories[1]);
  EXPECT_EQ(BlockStore::Open(options, blocks, &engine_).status().code(), Code::kNotFound);
  options.directories = {dir_.path()};
  Status fewer = BlockStore::Open(options, blocks, &engine_).status();
  EXPECT_THAT(fewer.message(), HasSubstr("lies in 2 NVMe directories, 1 are given"));
}

TEST_F(StoreTest, RanksShareADirectory) {
  ASSERT_TRUE(Create(Options()).ok());
  StoreUser other(store_.blocks());
  BlockStoreOptions options = Options();
  options.rank = 1;
  other.Reset(OrDie(BlockStore::Create(options, other.blocks(), &engine_)));
  CommitSeeds(1);
  ASSERT_TRUE(other.Write(0, 77).ok());
  ASSERT_TRUE(other->Commit("other", false).ok());
  EXPECT_TRUE(HoldsSeeds(1));
  EXPECT_TRUE(other.Holds(0, 77));
  EXPECT_EQ(OrDie(BlockStore::List(options.directories, "test", 1))[0].metadata, "other");
}

TEST_F(StoreTest, ListingNeedsNoLockAndSaysWhatIsThere) {
  ASSERT_TRUE(Create(Options(3)).ok());
  EXPECT_EQ(BlockStore::List({dir_.path()}, "test", 0).status().code(), Code::kNotFound);
  CommitSeeds(1, true);
  CommitSeeds(2);
  auto generations = OrDie(BlockStore::List({dir_.path()}, "test", 0));
  EXPECT_THAT(Numbers(generations), testing::ElementsAre(1, 2));
  EXPECT_TRUE(generations[0].pinned);
  EXPECT_EQ(generations[1].metadata, "seed 2");
}

TEST_F(StoreTest, AReadOnlyStoreWorksBesideItsWriterOnSomeOfTheBlocksAndChangesNothing) {
  ASSERT_TRUE(Create(Options(3)).ok());
  uint64_t kept = CommitSeeds(1, true);
  StoreUser reader({Durable("b", 4096)});
  BlockStoreOptions options = Options(3);
  options.read_only = true;
  reader.Reset(OrDie(BlockStore::Open(options, reader.blocks(), &engine_, kept)));
  for (uint64_t seed = 2; seed < 6; ++seed) CommitSeeds(seed);
  EXPECT_TRUE(reader.Holds(0, 1001));
  EXPECT_EQ(reader.Write(0, 5).code(), Code::kFailedPrecondition);
  EXPECT_EQ(reader->Commit("", false).status().code(), Code::kFailedPrecondition);
  EXPECT_EQ(reader->Release(kept).code(), Code::kFailedPrecondition);
  EXPECT_TRUE(HoldsSeeds(5));
}

TEST_F(StoreTest, OpeningWithOtherBlocksNamesTheOneThatDoesNotFit) {
  ASSERT_TRUE(Create(Options()).ok());
  CommitSeeds(1);
  store_.Reset();
  auto open = [&](std::vector<BlockDescription> blocks) {
    return BlockStore::Open(Options(), std::move(blocks), &engine_).status();
  };
  Status resized = open({Durable("a", 10001), Durable("b", 4096)});
  EXPECT_EQ(resized.code(), Code::kFailedPrecondition);
  EXPECT_THAT(resized.message(), HasSubstr("'a' has 10000 bytes, the run's has 10001"));
  Status added = open({Durable("a", 10000), Durable("b", 4096), Durable("c", 1)});
  EXPECT_EQ(added.code(), Code::kFailedPrecondition);
  EXPECT_THAT(added.message(), HasSubstr("'c' is not in it"));
  Status left_out = open({Durable("a", 10000)});
  EXPECT_EQ(left_out.code(), Code::kFailedPrecondition);
  EXPECT_THAT(left_out.message(), HasSubstr("'b' is not one of the run's"));
}

TEST_F(StoreTest, OptionsThatMakeNoStoreAreRefused) {
  auto create = [&](BlockStoreOptions options, std::vector<BlockDescription> blocks) {
    return BlockStore::Create(options, std::move(blocks), &engine_).status().code();
  };
  BlockStoreOptions one = Options(1);
  EXPECT_EQ(create(one, store_.blocks()), Code::kInvalidArgument);
  BlockStoreOptions named = Options();
  named.run_id = "../elsewhere";
  EXPECT_EQ(create(named, store_.blocks()), Code::kInvalidArgument);
  BlockStoreOptions twice = Options();
  twice.directories.push_back(dir_.path() + "/.");
  EXPECT_EQ(create(twice, store_.blocks()), Code::kInvalidArgument);
  BlockStoreOptions nowhere = Options();
  nowhere.directories.clear();
  EXPECT_EQ(create(nowhere, store_.blocks()), Code::kInvalidArgument);
  EXPECT_EQ(create(Options(), {Durable("a", 1), Durable("a", 2)}), Code::kInvalidArgument);
  EXPECT_EQ(create(Options(), {Durable("a", 0)}), Code::kInvalidArgument);
}

using StoreDeathTest = StoreTest;

TEST_F(StoreDeathTest, TwoOperationsOnOneBlockOrACommitAmongThemAreBugs) {
  // A store made before the fork, so that the directory is not the dying process's to remove.
  ASSERT_TRUE(Create(Options()).ok());
  auto start = [&] { return store_->StartWrite(StoreBlock{0}, store_.Padded(0)); };
  EXPECT_DEATH(
      {
        StoreTicket first = start();
        StoreTicket second = start();
      },
      "busy");
  EXPECT_DEATH(
      {
        StoreTicket write = start();
        auto committed = store_->Commit("", false);
      },
      "num_in_flight_");
}

}  // namespace
}  // namespace strata::tiering
