#include "engine/train/saved_state.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <vector>

#include "engine/model/units.h"
#include "engine/optimizer/split_master.h"
#include "engine/train/planning.h"
#include "engine/train/run_directory.h"
#include "engine/train/saved_blocks.h"

namespace strata::engine {
namespace {

using Bytes = std::span<std::byte>;
using tiering::BlockStore;

// A rank's committed states: of which step, and what number they have in its store.
using Generations = std::map<uint64_t, uint64_t>;

struct Found {
  uint64_t step = 0;
  RunRecord record;
  std::vector<uint64_t> generation_of;  // by rank
};

// kNotFound when the rank has none, or not here.
Result<Generations> GenerationsOf(const SavedStateOptions& options, uint32_t rank,
                                  std::map<uint64_t, RunRecord>& records) {
  const std::string id = StoreIdOf(options.run_id, options.stores);
  Result<std::vector<tiering::Generation>> listed =
      BlockStore::List(options.stores.directories, id, rank);
  if (!listed.ok() && listed.status().code() == Code::kNotFound) {
    return NotFound(fmt::format(
        "no committed state of rank {} of {} is to be seen here: {}/strata-{}/rank-{}.manifest-*: "
        "is a drive not mounted? If the rank was on another machine, bring its files to the same "
        "place on this one",
        rank, options.stores.world_size, options.stores.directories.front(), id, rank));
  }
  STRATA_RETURN_IF_ERROR(listed.status());
  Generations generations;
  for (const tiering::Generation& generation : *listed) {
    STRATA_ASSIGN_OR_RETURN(RunRecord record, ParseRunRecord(generation.metadata));
    generations[record.step] = generation.number;
    records[record.step] = std::move(record);
  }
  return generations;
}

std::vector<uint64_t> StepsOfAll(const std::vector<Generations>& of_ranks) {
  std::vector<uint64_t> steps;
  for (const auto& [step, number] : of_ranks.front()) {
    if (std::ranges::all_of(of_ranks, [&](const auto& rank) { return rank.contains(step); }))
      steps.push_back(step);
  }
  return steps;
}

Result<uint64_t> ChooseStep(const std::vector<uint64_t>& steps, std::optional<uint64_t> step) {
  if (steps.empty()) return NotFound("there is no step of which all ranks have the state");
  if (!step) return steps.back();
  if (std::ranges::find(steps, *step) != steps.end()) return *step;
  return NotFound(fmt::format("the run has no state of step {}; it has those of steps: {}", *step,
                              fmt::join(steps, " ")));
}

Result<Found> Find(const SavedStateOptions& options) {
  std::vector<Generations> of_ranks;
  std::map<uint64_t, RunRecord> records;
  for (uint32_t rank = 0; rank < options.stores.world_size; ++rank) {
    STRATA_ASSIGN_OR_RETURN(Generations generations, GenerationsOf(options, rank, records));
    of_ranks.push_back(std::move(generations));
  }
  Found found;
  STRATA_ASSIGN_OR_RETURN(found.step, ChooseStep(StepsOfAll(of_ranks), options.step));
  found.record = records.at(found.step);
  if (found.record.world_size != options.stores.world_size) {
    return DataLoss(fmt::format("the state of step {} is of {} ranks, the run's stores are of {}",
                                found.step, found.record.world_size, options.stores.world_size));
  }
  for (const Generations& generations : of_ranks)
    found.generation_of.push_back(generations.at(found.step));
  return found;
}

Result<std::vector<std::unique_ptr<BlockStore>>> OpenStores(const SavedStateOptions& options,
                                                            const StateLayout& layout,
                                                            const Found& found,
                                                            aio::IoEngine* engine) {
  std::vector<tiering::BlockDescription> blocks;
  for (const StateBlock& block : layout.blocks)
    blocks.push_back({.name = block.name, .size_bytes = block.size_bytes()});
  const bool is_off = options.verify == tiering::Verify::kOff;
  std::vector<std::unique_ptr<BlockStore>> stores;
  for (uint32_t rank = 0; rank < options.stores.world_size; ++rank) {
    STRATA_ASSIGN_OR_RETURN(
        std::unique_ptr<BlockStore> store,
        BlockStore::Open({.directories = options.stores.directories,
                          .run_id = StoreIdOf(options.run_id, options.stores),
                          .rank = rank,
                          .verify = is_off ? tiering::Verify::kOff : tiering::Verify::kAlways,
                          .read_only = true},
                         blocks, engine, found.generation_of[rank]));
    stores.push_back(std::move(store));
  }
  return stores;
}

// In the stores of the ranks that wrote it.
class StoredState final : public SavedState {
 public:
  StoredState(RunRecord record, StateLayout layout, SavedBlocks blocks)
      : SavedState(std::move(record), std::move(layout)), blocks_(std::move(blocks)) {}

  Status Read(uint32_t unit, StateKind kind, uint64_t first, uint64_t num_elements,
              Bytes out) override;
  Status Check(uint32_t share, uint32_t num_shares,
               const std::function<void(uint64_t, uint64_t)>& on_progress) override {
    return blocks_.Check(share, num_shares, on_progress);
  }
  void MarkChecked() override { blocks_.MarkChecked(); }

 private:
  // The block that has an element of a unit, and which of its elements it has.
  struct Piece {
    SavedBlock block;
    uint64_t begin = 0;
    uint64_t end = 0;
  };
  Piece PieceWith(uint32_t unit, StateKind kind, uint64_t element) const;

  SavedBlocks blocks_;
};

}  // namespace

StateLayout SavedLayoutOf(const RunConfig& config, const RunRecord& record) {
  return MakeStateLayout(UnitsOf(config.model.llama, PartElementsOf(config)),
                         {.precision = DTypeOf(config.train.precision),
                          .format = *config.optimizer.state,
                          .world_size = static_cast<uint32_t>(record.world_size),
                          .stage = static_cast<uint32_t>(record.stage)});
}

Result<std::unique_ptr<SavedState>> SavedState::Open(const RunConfig& config,
                                                     const SavedStateOptions& options,
                                                     aio::IoEngine* engine) {
  STRATA_ASSIGN_OR_RETURN(Found found, Find(options));
  STRATA_RETURN_IF_ERROR(CheckSameState(found.record, MakeRunRecord(config, 0, {})));
  StateLayout layout = SavedLayoutOf(config, found.record);
  STRATA_ASSIGN_OR_RETURN(std::vector<std::unique_ptr<BlockStore>> stores,
                          OpenStores(options, layout, found, engine));
  std::vector<uint64_t> block_bytes;
  for (const StateBlock& block : layout.blocks) block_bytes.push_back(block.size_bytes());
  SavedBlocks blocks(std::move(stores), std::move(block_bytes), options.verify, options.num_pages);
  return std::unique_ptr<SavedState>(
      std::make_unique<StoredState>(std::move(found.record), std::move(layout), std::move(blocks)));
}

namespace {

StoredState::Piece StoredState::PieceWith(uint32_t unit, StateKind kind, uint64_t element) const {
  const UnitState& state = layout().units[unit];
  const bool is_weights = kind == StateKind::kWeights;
  const bool is_sharded =
      is_weights ? layout().options.shards_weights() : layout().options.shards_optimizer();
  const uint64_t rank = is_sharded ? element / state.shard_elements : 0;
  const uint64_t start = rank * state.shard_elements;
  const auto at_rank = static_cast<uint32_t>(rank);
  if (is_weights) {
    const uint64_t count = layout().blocks[state.weights].num_elements;
    return {{at_rank, state.weights}, start, start + count};
  }
  auto chunk =
      std::ranges::upper_bound(state.chunks, element - start, {}, &UnitState::Chunk::first_element);
  STRATA_CHECK(chunk-- != state.chunks.begin());
  const uint64_t begin = start + chunk->first_element;
  const uint32_t number = kind == StateKind::kM   ? chunk->m
                          : kind == StateKind::kV ? chunk->v
                                                  : chunk->master;
  return {{at_rank, number}, begin, begin + chunk->num_elements};
}

Status StoredState::Read(uint32_t unit, StateKind kind, uint64_t first, uint64_t num_elements,
                         Bytes out) {
  const LayoutOptions& options = layout().options;
  STRATA_CHECK(HasKind(options, kind));
  const bool is_coded = IsCoded(options, kind);
  const uint64_t bytes = is_coded ? 1 : BytesOf(options, kind, 1);
  STRATA_CHECK(out.size() == BytesOf(options, kind, num_elements));
  STRATA_CHECK(!is_coded || first % kScaledElements == 0);
  const uint64_t end = std::min(first + num_elements, layout().units[unit].whole_elements);
  if (end < first + num_elements) std::memset(out.data(), 0, out.size());
  for (uint64_t at = first; at < end;) {
    const Piece piece = PieceWith(unit, kind, at);
    const uint64_t count = std::min(piece.end, end) - at;
    STRATA_RETURN_IF_ERROR(blocks_.Read(piece.block, (at - piece.begin) * bytes,
                                        out.subspan((at - first) * bytes, count * bytes)));
    if (is_coded) {
      const uint64_t scales = (piece.end - piece.begin) + (at - piece.begin) / kScaledElements;
      STRATA_RETURN_IF_ERROR(blocks_.Read(
          piece.block, scales,
          out.subspan(num_elements + (at - first) / kScaledElements, count / kScaledElements)));
    }
    at += count;
  }
  return OkStatus();
}

Status JoinMasters(SavedState& state, uint32_t unit, uint64_t first, std::span<float> out) {
  std::vector<Bf16> high(out.size());
  std::vector<int16_t> low(out.size());
  STRATA_RETURN_IF_ERROR(state.Read(unit, StateKind::kWeights, first, out.size(),
                                    std::as_writable_bytes(std::span(high))));
  STRATA_RETURN_IF_ERROR(state.Read(unit, StateKind::kRemainder, first, out.size(),
                                    std::as_writable_bytes(std::span(low))));
  for (size_t i = 0; i < out.size(); ++i) out[i] = JoinMaster(high[i], low[i]);
  return OkStatus();
}

}  // namespace

Status ReadMasters(SavedState& state, uint32_t unit, uint64_t first, std::span<float> out) {
  constexpr uint64_t kPieceElements = 1ULL << 16;
  const LayoutOptions& options = state.layout().options;
  if (options.format == StateFormat::kFp32) {
    const bool are_weights = options.precision == DType::kF32;
    return state.Read(unit, are_weights ? StateKind::kWeights : StateKind::kMaster, first,
                      out.size(), std::as_writable_bytes(out));
  }
  while (!out.empty()) {
    std::span<float> now = out.first(std::min<uint64_t>(kPieceElements, out.size()));
    STRATA_RETURN_IF_ERROR(JoinMasters(state, unit, first, now));
    out = out.subspan(now.size());
    first += now.size();
  }
  return OkStatus();
}

namespace {

// Of a tensor in parts each row is in all of them; of a master both halves are read.
uint32_t PagesForRows(const RunConfig& config) {
  uint32_t most = 1;
  for (const Sublayer& sublayer : SublayersOf(UnitsOf(config.model.llama, PartElementsOf(config))))
    most = std::max(most, sublayer.num_parts);
  return 2 * most + 2;
}

}  // namespace

Result<SavedRun> OpenSavedRun(const std::string& run_dir, std::optional<uint64_t> step) {
  SavedRun run;
  STRATA_ASSIGN_OR_RETURN(RunDirectory directory, RunDirectory::Open(run_dir));
  STRATA_ASSIGN_OR_RETURN(run.config, LoadRunConfig(directory.ConfigPath()));
  STRATA_ASSIGN_OR_RETURN(RunStores stores, LoadRunStores(directory));
  STRATA_ASSIGN_OR_RETURN(run.engine, aio::IoEngine::Create({.backend = aio::IoBackend::kPosix}));
  STRATA_ASSIGN_OR_RETURN(run.state, SavedState::Open(run.config,
                                                      {.run_id = directory.run_id(),
                                                       .stores = stores.current,
                                                       .step = step,
                                                       .num_pages = PagesForRows(run.config)},
                                                      run.engine.get()));
  return run;
}

}  // namespace strata::engine
