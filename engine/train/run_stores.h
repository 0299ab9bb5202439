// Which block stores are a run's: those of the ranks that it has now.
//
// A run that moves to other ranks, another stage or other drives writes new stores beside the old
// ones; one small file, RUN_DIR/stores.json, says which of them are the run's. It is written before
// anything else is, then once for the change itself, and it names whatever else may lie about. So a
// crash at any moment leaves a run that has its state, and knows what to remove.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "aio/base/status.h"
#include "engine/train/run_directory.h"

namespace strata::engine {

// The stores of all ranks of a job, one each.
struct StoreSet {
  uint64_t number = 1;  // counts the moves of a run
  uint64_t world_size = 1;
  std::vector<std::string> directories = {};

  friend bool operator==(const StoreSet&, const StoreSet&) = default;
};

struct RunStores {
  StoreSet current;
  std::vector<StoreSet> leftovers = {};  // none of the run's state: to be removed

  friend bool operator==(const RunStores&, const RunStores&) = default;
};

// What the block store knows the set by: the run's id, and from the second set on its number.
std::string StoreIdOf(std::string_view run_id, const StoreSet& set);

std::string ToJson(const RunStores& stores);
// kDataLoss when it is not what ToJson() wrote.
Result<RunStores> ParseRunStores(std::string_view json);

// As the run directory says; of a run from before there was such a file, as its configuration does.
// kNotFound when it has neither: it ended before its first state.
Result<RunStores> LoadRunStores(const RunDirectory& directory);
// Durable, and whole or not at all. What is inside the run directory stays so when that is renamed.
Status SaveRunStores(const RunDirectory& directory, const RunStores& stores);

}  // namespace strata::engine
