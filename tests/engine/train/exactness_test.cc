// Where a byte lives never changes its value (DESIGN.md §2): whole runs over tiers, budgets, I/O
// backends, threads and prefetch depths, compared bit for bit.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ostream>
#include <string>
#include <vector>

#include "prefetch/compile.h"
#include "tests/engine/train/training_run.h"

namespace strata::engine {
namespace {

using prefetch::Lane;
using testing::ElementsAreArray;

// What is computed. Another model gives other bits.
struct Model {
  std::string name = {};
  std::string precision = "bf16";
  std::string state = "auto";  // the format of the optimizer's
  std::string clipping = "0.5";
  bool tied = false;
  int hidden_size = 64;
  int accumulation = 2;  // of a batch of eight
  int layers = 2;
  std::string part_size = "512MiB";  // embedding, mlp and head are cut into parts of that size

  friend void PrintTo(const Model& model, std::ostream* out) { *out << model.name; }
};

// Where it lives: weights and optimizer state at home in a tier each.
struct Place {
  std::string weights = "host";
  std::string optimizer = "host";
  int stage = 3;
  bool tight = false;  // with the smallest budgets: nothing stays that could be evicted
  bool mixed = false;  // kept gradients are at home partly in memory, partly on nvme
};

// How it is moved.
struct Ways {
  std::string backend = "io_uring";
  int threads = 1;
  int prefetch_ops = 16;
  std::string schedule = "vertical";
  std::string recompute = "all";
  std::string clip_mode = "auto";
  std::string tile = "auto";  // parts that an op takes at once
  std::string ratio = "1";    // of the optimizer's state that the cpu updates
};

std::string Describe(const Place& place, const Ways& ways) {
  return fmt::format(
      "weights={} optimizer={} stage={} tight={} {} threads={} prefetch_ops={} {} recompute={} {} "
      "tile={} ratio={}",
      place.weights, place.optimizer, place.stage, place.tight, ways.backend, ways.threads,
      ways.prefetch_ops, ways.schedule, ways.recompute, ways.clip_mode, ways.tile, ways.ratio);
}

RunConfig ConfigOf(const std::string& directory, const Model& model, const Place& place,
                   const Ways& ways) {
  std::vector<std::string> sets = OffloadTo(place.weights, place.optimizer, directory);
  // Large enough that a MiB, the smallest budget there is, does not hold everything.
  sets.insert(sets.end(), {"data.seq_len=64", "train.train_batch_size=8", "train.steps=3"});
  sets.push_back(fmt::format("model.hidden_size={}", model.hidden_size));
  sets.push_back(fmt::format("model.num_hidden_layers={}", model.layers));
  // Nothing is resumed here: fewer generations, fewer bytes to preallocate.
  sets.push_back("checkpoint.keep_last=0");
  sets.push_back("train.precision=" + model.precision);
  sets.push_back("optimizer.state=" + model.state);
  sets.push_back("train.gradient_clipping=" + model.clipping);
  sets.push_back(fmt::format("model.tie_word_embeddings={}", model.tied));
  sets.push_back(fmt::format("train.gradient_accumulation_steps={}", model.accumulation));
  sets.push_back(fmt::format("zero_optimization.stage={}", place.stage));
  sets.push_back("aio.backend=" + ways.backend);
  sets.push_back(fmt::format("train.threads={}", ways.threads));
  sets.push_back(fmt::format("zero_optimization.prefetch_ops={}", ways.prefetch_ops));
  sets.push_back("train.schedule=" + ways.schedule);
  sets.push_back("train.recompute=" + ways.recompute);
  sets.push_back("train.clip_mode=" + ways.clip_mode);
  sets.push_back("train.tile=" + ways.tile);
  if (place.optimizer != "device")
    sets.push_back("zero_optimization.offload_optimizer.ratio=" + ways.ratio);
  sets.push_back("model.part_size=" + model.part_size);
  if (place.tight) {
    for (std::string& set : TightBudgets(OrDie(TinyConfig(directory, sets)))) {
      sets.push_back(std::move(set));
    }
  }
  if (place.mixed)
    for (std::string& set : BudgetsForMixedGradients(directory, sets)) sets.push_back(set);
  return OrDie(TinyConfig(directory, sets));
}

RunOutcome Outcome(const Model& model, const Place& place = {}, const Ways& ways = {}) {
  ScratchDirectory scratch;
  return OrDie(Train(ConfigOf(scratch.path(), model, place, ways)));
}

void ExpectSameBits(const RunOutcome& a, const RunOutcome& b) {
  EXPECT_THAT(a.losses, ElementsAreArray(b.losses));
  EXPECT_THAT(a.gradient_norms, ElementsAreArray(b.gradient_norms));
  EXPECT_EQ(a.summary.weights_hash, b.summary.weights_hash);
  EXPECT_EQ(a.summary.state_hash, b.summary.state_hash);
}

std::vector<Ways> AllWays() {
  std::vector<Ways> all;
  for (const char* backend : {"io_uring", "posix"}) {
    for (int threads : {1, 2}) {
      for (int depth : {0, 16}) {
        const char* schedule = all.size() % 3 == 1 ? "horizontal" : "vertical";
        const char* recompute = all.size() % 4 == 1 ? "none" : all.size() % 4 == 2 ? "auto" : "all";
        all.push_back({backend, threads, depth, schedule, recompute});
      }
    }
  }
  return all;
}

const std::vector<Place> kPurePlaces = {
    {"device", "device"}, {"host", "host"}, {"nvme", "nvme"}, {"nvme", "nvme", 3, /*tight=*/true}};
const std::vector<Place> kMixedPlaces = {{"host", "nvme"},      {"nvme", "host"},
                                         {"device", "host"},    {"device", "nvme"},
                                         {"device", "host", 1}, {"device", "nvme", 1}};

TEST(Exactness, TierBudgetBackendThreadsAndDepthNeverChangeABit) {
  Model model;
  RunOutcome expected = Outcome(model);
  ASSERT_EQ(expected.losses.size(), 3u);
  EXPECT_LT(expected.losses.back(), expected.losses.front());
  for (const Place& place : kPurePlaces) {
    for (const Ways& ways : AllWays()) {
      SCOPED_TRACE(Describe(place, ways));
      ExpectSameBits(Outcome(model, place, ways), expected);
    }
  }
}

// Some units are updated by the cpu, others where the model computes.
TEST(Exactness, WhoUpdatesNeverChangesABit) {
  for (const char* state : {"fp32", "split", "int8"}) {
    const Model model{.state = state};
    const RunOutcome expected = Outcome(model);
    for (const Place& place : {Place{"host", "host"}, Place{"nvme", "nvme", 3, /*tight=*/true},
                               Place{"device", "nvme", 1}}) {
      for (const char* ratio : {"0", "0.4", "auto"}) {
        for (const char* clip_mode : {"norm_first", "deferred"}) {
          const Ways ways{.threads = 2, .clip_mode = clip_mode, .ratio = ratio};
          SCOPED_TRACE(state + Describe(place, ways));
          ExpectSameBits(Outcome(model, place, ways), expected);
        }
      }
    }
    const Place nvme{"nvme", "nvme"};
    const Ways speculative{.clip_mode = "speculative", .ratio = "0.6"};
    SCOPED_TRACE(state + Describe(nvme, speculative));
    ExpectSameBits(Outcome(model, nvme, speculative), expected);
  }
}

// Kept gradients are at home where memory has room for them, some here and some there.
TEST(Exactness, GradientsKeptInSeveralTiersNeverChangeABit) {
  const Model deep{.layers = 12};
  const Place mixed{.weights = "nvme", .optimizer = "nvme", .mixed = true};
  RunOutcome expected = Outcome(deep, {}, {.clip_mode = "norm_first"});
  for (const Ways& ways : {Ways{.threads = 2, .clip_mode = "speculative"},
                           Ways{.schedule = "horizontal", .clip_mode = "speculative"},
                           Ways{.prefetch_ops = 3, .clip_mode = "deferred"}}) {
    SCOPED_TRACE(Describe(mixed, ways));
    ExpectSameBits(Outcome(deep, mixed, ways), expected);
  }
}

// Embedding and head in three parts, the mlp in more.
const Model kInParts = {.name = "bf16_in_parts", .part_size = "16KiB"};
const Model kInPartsTied = {.name = "bf16_in_parts_tied", .tied = true, .part_size = "16KiB"};
const Model kInPartsFp32 = {.name = "fp32_in_parts", .precision = "fp32", .part_size = "32KiB"};

class ExactnessOfModels : public testing::TestWithParam<Model> {};

// The masters in two halves, or whole: the same numbers, from the first bit to the last.
TEST(Exactness, SplitAndFp32StateGiveTheSameBits) {
  for (const char* clipping : {"0.5", "0"}) {
    Model model{.clipping = clipping};
    model.state = "fp32";
    RunOutcome expected = Outcome(model);
    model.state = "split";
    for (const Place& place : kPurePlaces) {
      SCOPED_TRACE(Describe(place, {}));
      ExpectSameBits(Outcome(model, place), expected);
    }
  }
}

// Each place in one of the ways, in turn: the test above goes through all of them.
TEST_P(ExactnessOfModels, PlacesNeverChangeABitMixedOnesIncluded) {
  RunOutcome expected = Outcome(GetParam());
  std::vector<Place> places = kMixedPlaces;
  places.push_back(kPurePlaces.front());
  places.push_back(kPurePlaces.back());
  std::vector<Ways> ways = AllWays();
  for (size_t i = 0; i < places.size(); ++i) {
    const Ways& way = ways[i % ways.size()];
    SCOPED_TRACE(Describe(places[i], way));
    ExpectSameBits(Outcome(GetParam(), places[i], way), expected);
  }
}

// Tied embeddings sum what two units add to one gradient; tight budgets move sums to nvme and back.
TEST_P(ExactnessOfModels, TheScheduleOfMicroBatchesNeverChangesABit) {
  Model model = GetParam();
  for (int accumulation : {2, 4}) {
    model.accumulation = accumulation;
    RunOutcome expected = Outcome(model);
    for (const Place& place : {Place{}, kPurePlaces.back()}) {
      Ways ways{.schedule = "horizontal", .recompute = "none"};
      SCOPED_TRACE(Describe(place, ways));
      ExpectSameBits(Outcome(model, place, ways), expected);
    }
  }
}

// Of the model in parts, each op takes one, some or all of a sublayer's.
TEST(Exactness, TheSizeOfTilesNeverChangesABit) {
  for (const Model& model : {kInParts, kInPartsTied, kInPartsFp32}) {
    RunOutcome expected = Outcome(model, {}, {.tile = "99"});
    EXPECT_LT(expected.losses.back(), expected.losses.front());
    for (const char* tile : {"1", "2", "auto"}) {
      for (const Place& place : {Place{}, kPurePlaces.back()}) {
        for (const char* schedule : {"vertical", "horizontal"}) {
          const bool keeps = std::string_view(tile) == "2";
          const Ways ways{.threads = 2,
                          .schedule = schedule,
                          .recompute = keeps ? "none" : "all",
                          .clip_mode = place.tight ? "speculative" : "deferred",
                          .tile = tile};
          SCOPED_TRACE(model.name + " " + Describe(place, ways));
          ExpectSameBits(Outcome(model, place, ways), expected);
        }
      }
    }
  }
}

const Model kWide = {.name = "bf16_wide", .hidden_size = 128};
const std::vector<Model> kModels = {
    kWide,
    kInParts,
    {.name = "bf16_tied", .tied = true},
    {.name = "bf16_fp32_state", .state = "fp32"},
    {.name = "bf16_int8_state", .state = "int8"},
    // Padding between a norm and what follows it, in weights that are written to new memory.
    {.name = "bf16_padded_fp32_state", .state = "fp32", .hidden_size = 32},
    {.name = "fp16_padded", .precision = "fp16", .hidden_size = 32},
    {.name = "bf16_unclipped_one_micro_batch", .clipping = "0", .accumulation = 1},
    {.name = "fp32_four_micro_batches", .precision = "fp32", .accumulation = 4}};

INSTANTIATE_TEST_SUITE_P(Models, ExactnessOfModels, testing::ValuesIn(kModels),
                         [](const auto& test) { return test.param.name; });

// Runs that must differ, or the comparisons prove nothing.
TEST(ExactnessItself, TellsDifferentRunsApart) {
  RunOutcome bf16 = Outcome({});
  for (const Model& other :
       {Model{.precision = "fp32"}, Model{.state = "int8"}, Model{.clipping = "0"},
        Model{.tied = true}, Model{.hidden_size = 128}, kInParts}) {
    EXPECT_NE(bf16.summary.weights_hash, Outcome(other).summary.weights_hash);
  }
}

TEST(ExactnessItself, TightBudgetsReallyEvict) {
  ScratchDirectory scratch;
  auto bytes_of = [&](const Model& model, bool tight, Lane lane) {
    Place place{"nvme", "nvme", 3, tight};
    PlannedRun run = OrDie(PlanRun(ConfigOf(scratch.path(), model, place, {}), {}));
    return prefetch::TrafficOf(run.plan).bytes_by_lane[static_cast<size_t>(lane)];
  };
  EXPECT_GT(bytes_of({}, true, Lane::kNvmeRead), bytes_of({}, false, Lane::kNvmeRead));
  EXPECT_GT(bytes_of({}, true, Lane::kH2d), bytes_of({}, false, Lane::kH2d));
  // Of this one gradients go to nvme and back, too.
  EXPECT_GT(bytes_of(kWide, true, Lane::kNvmeWrite), bytes_of(kWide, false, Lane::kNvmeWrite));
}

}  // namespace
}  // namespace strata::engine
