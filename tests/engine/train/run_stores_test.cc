#include "engine/train/run_stores.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "aio/file.h"
#include "tests/engine/train/training_run.h"

namespace strata::engine {
namespace {

using testing::HasSubstr;

const RunStores kStores = {
    .current = {.number = 3, .world_size = 4, .directories = {"/nvme0", "/nvme1"}},
    .leftovers = {{.number = 2, .world_size = 1, .directories = {"/elsewhere"}}}};

TEST(RunStoresTest, ComeBackAsTheyWereWritten) {
  EXPECT_EQ(OrDie(ParseRunStores(ToJson(kStores))), kStores);
  ScratchDirectory scratch;
  const RunDirectory directory = OrDie(RunDirectory::Create(scratch.path() + "/run"));
  ASSERT_TRUE(SaveRunStores(directory, kStores).ok());
  EXPECT_EQ(OrDie(LoadRunStores(directory)), kStores);
}

TEST(RunStoresTest, TheFirstAreKnownByTheRunAlone) {
  EXPECT_EQ(StoreIdOf("mine-12345678", {.number = 1}), "mine-12345678");
  EXPECT_EQ(StoreIdOf("mine-12345678", {.number = 2}), "mine-12345678.2");
}

TEST(RunStoresTest, DamageIsDataLossAndNamesTheFile) {
  ScratchDirectory scratch;
  const RunDirectory directory = OrDie(RunDirectory::Create(scratch.path() + "/run"));
  nlohmann::json whole = nlohmann::json::parse(ToJson(kStores));
  std::vector<std::string> damaged = {"", "{", "[]", "null"};
  for (const char* key : {"current", "leftovers"}) {
    nlohmann::json missing = whole;
    missing.erase(key);
    damaged.push_back(missing.dump());
  }
  for (const char* key : {"number", "world_size", "directories"}) {
    nlohmann::json missing = whole;
    missing["current"].erase(key);
    damaged.push_back(missing.dump());
  }
  for (const std::string& text : damaged) {
    ASSERT_TRUE(aio::WriteFileAtomically(directory.StoresPath(), text).ok());
    const Status status = LoadRunStores(directory).status();
    EXPECT_EQ(status.code(), Code::kDataLoss) << text;
    EXPECT_THAT(status.message(), HasSubstr("stores.json"));
  }
}

// Runs from before there was a list have one set of stores, where their configuration says.
TEST(RunStoresTest, OfARunWithoutAListAreThoseOfItsConfiguration) {
  ScratchDirectory scratch;
  const RunDirectory directory = OrDie(RunDirectory::Create(scratch.path() + "/run"));
  EXPECT_EQ(LoadRunStores(directory).status().code(), Code::kNotFound);
  std::vector<std::string> sets = OffloadTo("nvme", scratch.path());
  sets.insert(sets.end(), {"train.world_size=2", "train.gradient_accumulation_steps=1"});
  ASSERT_TRUE(directory.WriteConfig(ToToml(OrDie(TinyConfig(scratch.path(), sets)))).ok());
  const RunStores expected = {
      .current = {.number = 1, .world_size = 2, .directories = {scratch.path() + "/nvme"}}};
  EXPECT_EQ(OrDie(LoadRunStores(directory)), expected);
}

}  // namespace
}  // namespace strata::engine
