// A run's committed state, read whole: whichever ranks, at whichever stage, wrote it, and wherever
// it stands: in their stores, or in the files of a portable checkpoint (portable_state.h).
//
// Each old rank's store is opened beside the job that may have it open, never written, never
// locked. A rank's blocks are ranges of its units' elements; here a unit is one sequence of
// elements again, and a range of it comes from whoever has it. Bytes are as they are stored.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "aio/base/status.h"
#include "aio/io_engine.h"
#include "engine/config/run_config.h"
#include "engine/train/run_record.h"
#include "engine/train/run_stores.h"
#include "engine/zero/state_layout.h"
#include "tiering/block_store.h"

namespace strata::engine {

struct SavedStateOptions {
  std::string run_id = {};
  StoreSet stores = {};
  // The state of this step; none: the newest that every rank has.
  std::optional<uint64_t> step = {};
  // kOff: what is read is not checked against its checksums.
  tiering::Verify verify = tiering::Verify::kAlways;
  // Memory, in pieces of 4 MiB: as many places as are read in turn.
  uint32_t num_pages = 4;
};

// Thread-compatible.
class SavedState {
 public:
  // In the stores of a run. `config`: model, precision and state format, which must be those of the
  // state (kFailedPrecondition, naming what differs). kNotFound when a rank's store is not to be
  // seen from here, naming it, or when there is no state of that step that all ranks have. `engine`
  // outlives it.
  static Result<std::unique_ptr<SavedState>> Open(const RunConfig& config,
                                                  const SavedStateOptions& options,
                                                  aio::IoEngine* engine);
  virtual ~SavedState() = default;

  // Of the state's step. world_size and stage are those of the ranks that wrote it.
  const RunRecord& record() const { return record_; }
  // Its units, precision and format; its blocks are those of each of the ranks that wrote it.
  const StateLayout& layout() const { return layout_; }

  // Elements [first, first + num_elements) of a unit, as a block of them would hold them: of
  // moments in int8 first the codes, then the scales, and then both numbers are multiples of
  // kScaledElements. `out` has exactly those bytes. Behind a unit's last element all is 0.
  // Precision fp32 has no masters but its weights, only split and int8 have remainders (CHECKed).
  // Nothing is given out before it is checked against its checksum: kDataLoss names it and its
  // file.
  virtual Status Read(uint32_t unit, StateKind kind, uint64_t first, uint64_t num_elements,
                      std::span<std::byte> out) = 0;

  // Checks every block whose number, counted over all ranks, is `share` modulo `num_shares`: so
  // that readers that read all of it together need not each check what others do, too. When all
  // shares are checked, they say MarkChecked().
  virtual Status Check(uint32_t share, uint32_t num_shares,
                       const std::function<void(uint64_t done, uint64_t total)>& on_progress) = 0;
  virtual void MarkChecked() = 0;

 protected:
  SavedState(RunRecord record, StateLayout layout)
      : record_(std::move(record)), layout_(std::move(layout)) {}

 private:
  RunRecord record_;
  StateLayout layout_;
};

// How the ranks that wrote this record cut the state of a run with this configuration.
StateLayout SavedLayoutOf(const RunConfig& config, const RunRecord& record);

// What masters are, whatever they are stored as: fp32.
Status ReadMasters(SavedState& state, uint32_t unit, uint64_t first, std::span<float> out);

// A run as it stands in its directory, for tools on a machine that sees all of it.
struct SavedRun {
  RunConfig config;
  std::unique_ptr<aio::IoEngine> engine;
  std::unique_ptr<SavedState> state;
};

// kNotFound when there is no run, or no such state; else as SavedState::Open(). Has memory enough
// to read all parts of a tensor row by row.
Result<SavedRun> OpenSavedRun(const std::string& run_dir, std::optional<uint64_t> step);

}  // namespace strata::engine
