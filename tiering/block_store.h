// Named runs of bytes on NVMe, in generations that are whole or not there.
//
// A write never touches the last committed version of anything: it goes to a free extent, and the
// block's live version is the new one once the write is done. Commit() makes the set of live
// versions durable together, as a generation: flush data, write the manifest to a temporary name,
// fsync, rename, fsync the directory. Until then a crash goes back to the generation before, and
// Rollback() does the same without a crash. BeginCommit() freezes the live versions and leaves the
// rest for later: meanwhile reads and writes go on, to versions that are not part of it, and blocks
// that are kept in memory can still be written into it. An extent is free again when no valid
// generation and no live block needs it. A block that is written again before the commit is
// overwritten in place, scratch blocks always are; when such a write fails, the block has no
// version until it is written again or rolled back.
//
// Opened at an older generation, the store keeps the later ones until the next commit; that one
// ends them, and its number is higher than theirs.
//
// Files: DIRECTORY/strata-RUN_ID/rank-R.blocks (one per directory, with -1, -2... after the first;
// full size from the start, initialised once); in the first directory rank-R.manifest-GENERATION
// and rank-R.lock.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "aio/base/status.h"
#include "aio/io_engine.h"

namespace strata::tiering {

// A block's number in its store: 0, 1, 2... in order of Declare().
enum class StoreBlock : uint32_t {};

enum class Verify { kAlways, kSampled, kOff };  // checksums on read; sampled: one read in 16

// Whether a block is part of a generation, or scratch that ends with the process.
enum class Durability { kDurable, kScratch };

struct BlockDescription {
  std::string name;
  uint64_t size_bytes = 0;
  Durability durability = Durability::kDurable;
  // Versions that there is room for beyond num_generations: one for a durable block that is written
  // while a commit is pending that froze a version of its own.
  uint32_t more_versions = 0;
};

struct BlockStoreOptions {
  // One or more, which must exist. Their order is part of the store.
  std::vector<std::string> directories = {};
  std::string run_id = {};  // letters, digits, '-', '_' and '.'
  uint32_t rank = 0;
  // Versions of each durable block there is room for: the valid generation's and the one being
  // written are two, each generation pinned beside the newest is one more. Create() takes that
  // room; Open() adds to it when this is more than before.
  uint32_t num_generations = 2;
  Verify verify = Verify::kAlways;
  // Open() only: no lock, nothing written, writes fail; works beside the process that holds the
  // lock. That process may overwrite all but pinned generations meanwhile: a checked read notices.
  bool read_only = false;
  // Told how many bytes of the files are initialised so far; for a progress line.
  std::function<void(uint64_t done_bytes, uint64_t total_bytes)> on_initialise = {};
};

struct Generation {
  uint64_t number = 0;   // 1 is the first; numbers only grow
  std::string metadata;  // the engine's own record: step, data position, ...
  bool pinned = false;   // a kept checkpoint
};

struct StoreCounters {
  uint64_t bytes_read = 0;  // block contents, padded to the slot alignment
  uint64_t bytes_written = 0;
  uint64_t pending_bytes_written = 0;  // of them, into pending commits
  uint64_t manifest_bytes = 0;
  uint64_t commits = 0;
  uint64_t live_bytes = 0;  // extents held by live versions, generations and writes under way
  uint64_t peak_bytes = 0;
};

// One read or write under way. Move-only; dropped early, it waits.
class StoreTicket {
 public:
  class Operation;
  StoreTicket();
  explicit StoreTicket(std::unique_ptr<Operation> operation);
  StoreTicket(StoreTicket&&) noexcept;
  StoreTicket& operator=(StoreTicket&&) noexcept;
  ~StoreTicket();

  bool valid() const { return operation_ != nullptr; }
  bool ready() const;
  // Blocks until it is over, and leaves the ticket invalid. Of a read: verifies the checksum, on
  // the calling thread; a mismatch is kDataLoss and names block, generation, file and extent. Of a
  // write: makes the new version the live one. Must be called for a write to count.
  // kDeadlineExceeded with the ticket still valid: not over yet, may be called again.
  Status Finish();

 private:
  std::unique_ptr<Operation> operation_;
};

// A commit that has begun and is not valid yet: a crash still goes back to the generation before.
// Its versions stay as they are, whatever is written to the store. Destroyed before Finish(),
// there is no such generation. Its writes end before it does (CHECKed).
//
// Thread-safe as the store: StartWrite() and its ticket may be used beside all that the store does
// between two steps and within them, but not two writes of one block into it at once (CHECKed).
class PendingCommit {
 public:
  virtual ~PendingCommit() = default;

  // Puts this content into the generation, in place of the version that was frozen. It is the live
  // version, too, unless the block was written since the commit began. A write that fails is the
  // end of this commit: Finish() fails with it.
  virtual StoreTicket StartWrite(StoreBlock block, std::span<const std::byte> from,
                                 aio::IoDone done = {}) = 0;
  // Makes it valid, as Commit() does; only when nothing is in flight in the store (CHECKed), and
  // once. After a failure there is no such generation.
  virtual Result<uint64_t> Finish() = 0;
};

// Thread-safe: reads, writes and Finish() may come from several threads, but not two operations on
// one block at once (CHECKed), and Commit/Rollback/Release only when nothing is in flight but
// writes into a pending commit (CHECKed). `done` is the engine's (aio::IoDone); of an operation
// that fails before it starts, as reading what was never written, it is called by Start*() itself
// before that returns.
class BlockStore {
 public:
  // Creates the store: kAlreadyExists when the run id has one, kFailedPrecondition when another
  // process holds the lock (names its pid), kResourceExhausted when the space is not there (says
  // how much is missing). Leftovers of a job that died before its first commit are removed.
  // Nothing stays behind on failure. `engine` outlives the store.
  static Result<std::unique_ptr<BlockStore>> Create(const BlockStoreOptions& options,
                                                    std::vector<BlockDescription> blocks,
                                                    aio::IoEngine* engine);
  // Opens an existing store at its newest valid generation (or the one asked for). Blocks are
  // matched by name: one that is missing from the generation, or has another size, is
  // kFailedPrecondition naming it. A torn or damaged manifest is skipped with a warning in favour
  // of the one before; none left is kNotFound.
  static Result<std::unique_ptr<BlockStore>> Open(const BlockStoreOptions& options,
                                                  std::vector<BlockDescription> blocks,
                                                  aio::IoEngine* engine,
                                                  std::optional<uint64_t> generation = {});
  // Read-only look at what is there, without lock and blocks; for export and listing.
  static Result<std::vector<Generation>> List(const std::vector<std::string>& directories,
                                              const std::string& run_id, uint32_t rank);
  // Removes the store and all its generations for good. kFailedPrecondition, and nothing removed,
  // while a process has it open; ok when there is none. `directories` that are not there hold none.
  static Status Remove(const std::vector<std::string>& directories, const std::string& run_id,
                       uint32_t rank);
  // The stores of all ranks that have files there.
  static Status RemoveAll(const std::vector<std::string>& directories, const std::string& run_id);
  virtual ~BlockStore() = default;

  // Reads the live version. `into` is at least the block's size rounded up to 4096, address
  // likewise aligned. kNotFound at Finish() when the block was never written.
  virtual StoreTicket StartRead(StoreBlock block, std::span<std::byte> into,
                                aio::IoDone done = {}) = 0;
  // Writes a new version; hashes on the calling thread before it returns. The padding up to 4096
  // is written with whatever stands there and is not part of the checksum.
  virtual StoreTicket StartWrite(StoreBlock block, std::span<const std::byte> from,
                                 aio::IoDone done = {}) = 0;
  // Part of a live version: offset and length multiples of 4096 (the end may be the rounded-up
  // block size). No checksum. For reading less than a block, or more than fits in memory.
  virtual Status ReadRange(StoreBlock block, uint64_t offset_bytes, std::span<std::byte> into) = 0;
  // Reads a live version through `piece`, which may be smaller than the block and is aligned as its
  // size is, to 4096, and compares its checksum, whatever `verify` says. Fails as a read does.
  // Before ReadRange(), for blocks that are larger than the memory there is for them.
  virtual Status Check(StoreBlock block, std::span<std::byte> piece) = 0;

  // Forgets a scratch block's version and frees its extent at once.
  virtual void Discard(StoreBlock block) = 0;
  virtual bool HasVersion(StoreBlock block) const = 0;

  // Makes the live durable versions a generation. Pinned generations stay until Release(); the
  // newest unpinned one stays until the next commit is valid. Returns its number.
  // A failed flush is final (aio::File::SyncData): there is no commit until the store is opened
  // anew.
  virtual Result<uint64_t> Commit(std::string metadata, bool pin) = 0;
  // The same in two halves: what is written from now on is not part of it. One at a time: until it
  // is finished or destroyed there is no other commit and no Release() (CHECKed).
  virtual Result<std::unique_ptr<PendingCommit>> BeginCommit(std::string metadata, bool pin) = 0;
  // Forgets everything since the last commit, or since the pending one began, but what is in
  // scratch blocks.
  virtual void Rollback() = 0;
  // Unpins; the extents are free once no valid generation needs them.
  virtual Status Release(uint64_t generation) = 0;

  virtual const std::vector<Generation>& generations() const = 0;  // valid ones, oldest first
  virtual StoreCounters counters() const = 0;
  virtual uint64_t capacity_bytes() const = 0;
};

// Keeps jobs out of a store without opening it, as whoever has it open does. Move-only; ends with
// the object.
class StoreHold {
 public:
  // kFailedPrecondition, naming the holder's pid, when another has it. The store is there.
  static Result<StoreHold> Acquire(const std::vector<std::string>& directories,
                                   const std::string& run_id, uint32_t rank);
  StoreHold(StoreHold&&) noexcept;
  StoreHold& operator=(StoreHold&&) noexcept;
  ~StoreHold();

 private:
  struct Lock;
  explicit StoreHold(std::unique_ptr<Lock> lock);
  std::unique_ptr<Lock> lock_;
};

// Bytes of file over all directories, padding included, that a store of `blocks` takes when created
// with this num_generations: durable blocks that often, scratch blocks once. For planners.
uint64_t StoreCapacityBytes(const std::vector<BlockDescription>& blocks, uint32_t num_generations);

}  // namespace strata::tiering
