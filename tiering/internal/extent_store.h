// The block store over extents: BlockStore's one implementation.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "aio/file.h"
#include "tiering/block_store.h"
#include "tiering/internal/extent_table.h"
#include "tiering/internal/store_lock.h"
#include "tiering/internal/store_paths.h"

namespace strata::tiering {

// Where the bytes of one version of a block are.
struct BlockVersion {
  ExtentIndex extent{};
  uint64_t checksum = 0;
  uint64_t generation = 0;  // the newest one it is part of; 0 before its first commit
};

struct GenerationRecord {
  Generation about;
  std::vector<std::optional<BlockVersion>> versions;  // by block
  // Superseded, or its commit failed: its manifest is to be removed, and until it is, its extents
  // must keep their bytes.
  bool stale = false;
};

// An opened or created store, with the extents of its generations held.
struct StoreParts {
  BlockStoreOptions options;
  StorePaths paths;
  StoreLock lock;
  std::vector<aio::File> files;  // by directory
  ExtentTable extents;
  std::vector<BlockDescription> blocks;
  std::vector<std::optional<ExtentIndex>> scratch_extents;  // by block; none of a durable one
  std::vector<GenerationRecord> generations;                // oldest first
  uint64_t base_generation = 0;             // the one live versions start from; 0 for none
  uint64_t last_number = 0;                 // the highest number ever given
  std::vector<uint64_t> damaged_manifests;  // removed after the next commit
  aio::IoEngine* engine = nullptr;
};

// A commit that has begun; its record holds the frozen versions.
struct PendingRecord {
  GenerationRecord record;
  std::vector<bool> busy;  // by block: a write into it is under way
  size_t num_in_flight = 0;
  Status failure;  // of the first write that failed
};

class ExtentStore final : public BlockStore {
 public:
  explicit ExtentStore(StoreParts parts);
  ~ExtentStore() override;

  StoreTicket StartRead(StoreBlock block, std::span<std::byte> into, aio::IoDone done) override;
  StoreTicket StartWrite(StoreBlock block, std::span<const std::byte> from,
                         aio::IoDone done) override;
  Status ReadRange(StoreBlock block, uint64_t offset_bytes, std::span<std::byte> into) override;
  Status Check(StoreBlock block, std::span<std::byte> piece) override;
  void Discard(StoreBlock block) override;
  bool HasVersion(StoreBlock block) const override;
  Result<uint64_t> Commit(std::string metadata, bool pin) override;
  Result<std::unique_ptr<PendingCommit>> BeginCommit(std::string metadata, bool pin) override;
  void Rollback() override;
  Status Release(uint64_t generation) override;
  const std::vector<Generation>& generations() const override { return generations_; }
  StoreCounters counters() const override;
  uint64_t capacity_bytes() const override;

 private:
  class Pending;
  struct BlockState {
    BlockDescription about;
    uint64_t padded_bytes = 0;
    std::optional<ExtentIndex> scratch_extent;
    std::optional<BlockVersion> live;
    bool busy = false;
  };

  // All below with mutex_ held, but for what says otherwise.
  BlockState& State(StoreBlock block);
  const BlockState& State(StoreBlock block) const;
  // A block's one operation begins and ends.
  BlockState& Begin(StoreBlock block);
  void End(BlockState& state);
  StoreTicket EndAtOnce(BlockState& state, Status failure);
  Result<ExtentIndex> TakeExtent(const BlockState& state);
  static void CheckSource(const BlockState& state, std::span<const std::byte> from);
  using EndOfWrite = std::function<Status(const BlockVersion&, const Status& io_status)>;
  // Lets go of `lock` for the checksum.
  StoreTicket StartWriteTo(std::unique_lock<std::mutex> lock, BlockVersion version,
                           const BlockState& state, std::span<const std::byte> from,
                           aio::IoDone done, EndOfWrite end);

  Result<BlockVersion> BeginRead(BlockState& state);
  Result<ExtentIndex> BeginWrite(BlockState& state);
  // Without mutex_.
  Status EndRead(BlockState& state, const BlockVersion& version, std::span<const std::byte> bytes,
                 const Status& io_status);
  Status CompareChecksum(const BlockState& state, const BlockVersion& version,
                         uint64_t checksum) const;
  Status ReadPiece(const BlockVersion& version, uint64_t offset_bytes, std::span<std::byte> into);
  Status CheckPieces(const BlockState& state, const BlockVersion& version,
                     std::span<std::byte> piece);
  Status EndWrite(BlockState& state, const BlockVersion& version, const Status& io_status);
  bool ShouldVerify();
  Status CheckWritable() const;
  const aio::File& FileOf(const BlockVersion& version) const;
  std::string Where(const BlockState& state, const BlockVersion& version) const;

  void SetLive(BlockState& state, std::optional<BlockVersion> version);
  Status SyncFiles();
  GenerationRecord RecordOfLive(std::string metadata, bool pin) const;
  Status Freeze(std::string metadata, bool pin);
  Result<uint64_t> FinishPending();
  Result<uint64_t> FinishCommit(GenerationRecord record);
  // Without mutex_.
  StoreTicket StartPendingWrite(StoreBlock block, std::span<const std::byte> from,
                                aio::IoDone done);
  Status EndPendingWrite(StoreBlock block, const BlockVersion& version, const Status& io_status);
  void AbandonPending();
  void FailPending(const Status& failure);
  Manifest ManifestOf(const GenerationRecord& record) const;
  Status Write(const GenerationRecord& record);
  void HoldAll(const GenerationRecord& record);
  void DropAll(const GenerationRecord& record);
  // Which generations the one just committed makes superfluous.
  void MarkSuperseded(uint64_t committed);
  void RemoveStale();
  void RemoveDamaged();
  void ListGenerations();
  GenerationRecord* Find(uint64_t generation);

  const BlockStoreOptions options_;
  const StorePaths paths_;
  const StoreLock lock_;
  aio::IoEngine* const engine_;
  mutable std::mutex mutex_;
  std::vector<aio::File> files_;  // read without mutex_; synced with it
  ExtentTable extents_;
  std::vector<BlockState> blocks_;
  std::vector<GenerationRecord> records_;  // oldest first
  std::vector<Generation> generations_;    // those of records_ that are not stale
  uint64_t base_generation_;
  uint64_t last_number_;
  std::vector<uint64_t> damaged_manifests_;
  // A flush that failed may have lost any write since the last commit, and the next flush would not
  // know: no commit from then on.
  Status lost_writes_;
  std::optional<PendingRecord> pending_;
  size_t num_in_flight_ = 0;  // not into pending_
  std::atomic<uint64_t> num_reads_ = 0;
  StoreCounters counters_;
};

}  // namespace strata::tiering
