// The block store against a model of it in memory, over random operations.
#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>
#include <set>

#include "tests/tiering/store_fixture.h"
#include "tiering/block_store.h"

namespace strata::tiering {
namespace {

namespace fs = std::filesystem;

constexpr uint32_t kNumGenerations = 4;
constexpr uint32_t kNumDurable = 6;

std::vector<BlockDescription> ModelBlocks() {
  return {Rewritten("a", 4096, 2),  Rewritten("b", 4000, 2),  Rewritten("c", 10000, 2),
          Rewritten("d", 12288, 2), Rewritten("e", 20000, 2), Rewritten("f", 1, 2),
          Scratch("s", 4096),       Scratch("t", 9000)};
}

// By block: which write it holds. A version's seed is different from all others.
using Contents = std::map<uint32_t, uint64_t>;

class StoreModel {
 public:
  // Transfers meet `chances`, which must not change what the store does.
  explicit StoreModel(uint32_t seed, std::vector<fakes::FaultChance> chances = {})
      : random_(seed), engine_(NewEngine(), {.seed = seed, .chances = std::move(chances)}) {
    options_ = {.directories = {first_.path(), second_.path()},
                .run_id = "model",
                .num_generations = kNumGenerations};
    user_.Reset(OrDie(BlockStore::Create(options_, user_.blocks(), &engine_)));
  }

  ~StoreModel() { AbandonPending(); }

  void Step() {
    switch (Below(20)) {
      case 16:
        return Begin();
      case 17:
        return Below(8) == 0 ? AbandonPending() : WriteInto();
      case 18:
      case 19:
        return WriteInto();
      case 0:
        return Commit();
      case 1:
        return Below(4) == 0 ? Reopen(std::nullopt) : Commit();
      case 2:
        return Below(4) == 0 ? ReopenOlder() : ReleaseOne();
      case 3:
        return Rollback();
      case 4:
        return Discard();
      case 5:
        return FailWrite();
      case 6:
        return Below(4) == 0 ? CheckCopy() : Write();
      case 7:
      case 8:
      case 9:
        return CheckOne();
      default:
        return Write();
    }
  }

  void CheckAll() {
    CheckContents(user_, live_);
    uint64_t live_bytes = 0;
    for (auto [block, seed] : HeldVersions())
      live_bytes += RoundUp(user_.blocks()[block].size_bytes, 4_KiB);
    EXPECT_EQ(user_->counters().live_bytes, live_bytes);
    std::vector<uint64_t> numbers;
    for (const auto& [number, generation] : generations_) numbers.push_back(number);
    std::vector<uint64_t> listed;
    for (const Generation& generation : user_->generations()) {
      listed.push_back(generation.number);
      EXPECT_EQ(generation.metadata, std::to_string(generation.number));
      EXPECT_EQ(generation.pinned, generations_[generation.number].pinned);
    }
    EXPECT_EQ(listed, numbers);
  }

 private:
  struct ModelGeneration {
    Contents contents;
    bool pinned = false;
  };

  // A commit that has begun: which versions it holds.
  struct ModelPending {
    std::unique_ptr<PendingCommit> commit;
    Contents contents;
    bool pin = false;
  };

  uint32_t Below(uint32_t bound) { return static_cast<uint32_t>(random_() % bound); }
  Contents Base() { return base_ == 0 ? Contents() : generations_.at(base_).contents; }
  uint32_t AnyBlock() { return Below(static_cast<uint32_t>(user_.blocks().size())); }

  std::set<std::pair<uint32_t, uint64_t>> HeldVersions() const {
    std::set<std::pair<uint32_t, uint64_t>> held(live_.begin(), live_.end());
    for (const auto& [number, generation] : generations_)
      held.insert(generation.contents.begin(), generation.contents.end());
    if (pending_) held.insert(pending_->contents.begin(), pending_->contents.end());
    return held;
  }

  void CheckContents(StoreUser& user, const Contents& contents) {
    for (uint32_t block = 0; block < user.blocks().size(); ++block) {
      auto found = contents.find(block);
      ASSERT_EQ(user->HasVersion(StoreBlock{block}), found != contents.end()) << block;
      if (found == contents.end()) continue;
      EXPECT_TRUE(user.Holds(block, found->second)) << block;
    }
  }

  void CheckOne() {
    uint32_t block = AnyBlock();
    if (live_.count(block))
      EXPECT_TRUE(user_.Holds(block, live_[block]));
    else
      EXPECT_EQ(user_.Read(block).status().code(), Code::kNotFound);
  }

  void Write() {
    uint32_t block = AnyBlock();
    Status status = user_.Write(block, ++last_seed_);
    EXPECT_TRUE(status.ok()) << status.ToString();  // there is always room
    live_[block] = last_seed_;
  }

  // What a generation holds stays; the rest is overwritten in place and lost.
  void FailWrite() {
    uint32_t block = AnyBlock();
    engine_.SpoilWrite({}, 1);
    EXPECT_FALSE(user_.Write(block, ++last_seed_).ok());
    Contents committed = pending_ ? pending_->contents : Base();
    auto kept = committed.find(block);
    if (live_.count(block) && (kept == committed.end() || kept->second != live_[block]))
      live_.erase(block);
  }

  Contents LiveDurable() const {
    Contents contents;
    for (auto [block, seed] : live_)
      if (block < kNumDurable) contents[block] = seed;
    return contents;
  }

  // Whether one more pinned generation leaves room for the rest.
  bool MayPin() {
    int64_t staying = std::ranges::count_if(generations_, [&](const auto& entry) {
      return entry.second.pinned && entry.first <= base_;
    });
    return staying + 1 <= kNumGenerations - 2 && Below(3) == 0;
  }

  void BecameValid(Contents contents, bool pin) {
    for (auto it = generations_.begin(); it != generations_.end();) {
      bool stays = it->second.pinned && it->first <= base_;
      it = stays ? std::next(it) : generations_.erase(it);
    }
    base_ = ++last_number_;
    generations_[base_] = {.contents = std::move(contents), .pinned = pin};
  }

  void Commit() {
    if (pending_) return FinishPending();
    bool pin = MayPin();
    EXPECT_EQ(OrDie(user_->Commit(std::to_string(last_number_ + 1), pin)), last_number_ + 1);
    BecameValid(LiveDurable(), pin);
  }

  void Begin() {
    if (pending_) return FinishPending();
    bool pin = MayPin();
    pending_.emplace(OrDie(user_->BeginCommit(std::to_string(last_number_ + 1), pin)),
                     LiveDurable(), pin);
  }

  void WriteInto() {
    if (!pending_) return;
    uint32_t block = Below(kNumDurable);
    Status status = user_.WriteInto(*pending_->commit, block, ++last_seed_);
    EXPECT_TRUE(status.ok()) << status.ToString();
    bool was_there = pending_->contents.count(block) > 0;
    bool is_live = live_.count(block) > 0;
    if (was_there == is_live && (!is_live || live_[block] == pending_->contents[block]))
      live_[block] = last_seed_;
    pending_->contents[block] = last_seed_;
  }

  void FinishPending() {
    ModelPending pending = std::move(*std::exchange(pending_, std::nullopt));
    EXPECT_EQ(OrDie(pending.commit->Finish()), last_number_ + 1);
    BecameValid(std::move(pending.contents), pending.pin);
  }

  void AbandonPending() { pending_.reset(); }

  void ReleaseOne() {
    if (pending_) return;
    for (auto& [number, generation] : generations_) {
      if (!generation.pinned) continue;
      EXPECT_TRUE(user_->Release(number).ok());
      if (number == base_)
        generation.pinned = false;
      else
        generations_.erase(number);
      return;
    }
  }

  void Rollback() {
    user_->Rollback();
    std::erase_if(live_, [](const auto& entry) { return entry.first < kNumDurable; });
    Contents base = pending_ ? pending_->contents : Base();
    live_.insert(base.begin(), base.end());
  }

  void Discard() {
    uint32_t block = kNumDurable + Below(2);
    user_->Discard(StoreBlock{block});
    live_.erase(block);
  }

  void Reopen(std::optional<uint64_t> generation) {
    if (generations_.empty()) return;
    AbandonPending();
    // An unpinned generation that is not the newest is gone for one who opens the store anew.
    uint64_t newest = generations_.rbegin()->first;
    std::erase_if(generations_,
                  [&](const auto& entry) { return !entry.second.pinned && entry.first != newest; });
    user_.Reset();
    user_.Reset(OrDie(BlockStore::Open(options_, user_.blocks(), &engine_, generation)));
    base_ = generation.value_or(newest);
    live_ = generations_[base_].contents;
  }

  void ReopenOlder() {
    for (const auto& [number, generation] : generations_)
      if (generation.pinned) return Reopen(number);
  }

  // As a crash now would leave it: a copy of the files, opened elsewhere.
  void CheckCopy() {
    if (generations_.empty()) return;
    TempDir first, second;
    fs::copy(first_.path(), first.path(), fs::copy_options::recursive);
    fs::copy(second_.path(), second.path(), fs::copy_options::recursive);
    BlockStoreOptions options = options_;
    options.directories = {first.path(), second.path()};
    StoreUser copy(user_.blocks());
    copy.Reset(OrDie(BlockStore::Open(options, copy.blocks(), &engine_)));
    CheckContents(copy, generations_.rbegin()->second.contents);
  }

  std::mt19937 random_;
  TempDir first_, second_;
  fakes::FaultEngine engine_;
  StoreUser user_{ModelBlocks()};
  BlockStoreOptions options_;
  Contents live_;
  std::optional<ModelPending> pending_;
  std::map<uint64_t, ModelGeneration> generations_;
  uint64_t base_ = 0;
  uint64_t last_number_ = 0;
  uint64_t last_seed_ = 0;
};

class StoreModelTest : public testing::TestWithParam<uint32_t> {};

TEST_P(StoreModelTest, AnySequenceOfOperationsGivesWhatTheModelGives) {
  StoreModel model(GetParam());
  for (int step = 0; step < 250 && !HasFailure(); ++step) {
    SCOPED_TRACE(step);
    model.Step();
    if (step % 8 == 0) model.CheckAll();
  }
}

TEST_P(StoreModelTest, DelayedReorderedAndShortTransfersChangeNothing) {
  std::vector<fakes::FaultChance> chances;
  for (aio::IoDirection direction : {aio::IoDirection::kRead, aio::IoDirection::kWrite}) {
    for (fakes::FaultKind kind :
         {fakes::FaultKind::kDelayed, fakes::FaultKind::kReordered, fakes::FaultKind::kShort})
      chances.push_back({direction, {kind}, 0.1});
  }
  StoreModel model(GetParam(), std::move(chances));
  for (int step = 0; step < 100 && !HasFailure(); ++step) {
    SCOPED_TRACE(step);
    model.Step();
  }
  model.CheckAll();
}

INSTANTIATE_TEST_SUITE_P(Seeds, StoreModelTest, testing::Range(1u, 4u));

}  // namespace
}  // namespace strata::tiering
