#include "engine/train/run_stores.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "aio/file.h"
#include "engine/config/run_config.h"
#include "engine/train/planning.h"

namespace strata::engine {
namespace {

constexpr uint64_t kMaxBytes = 1ULL << 20;

nlohmann::ordered_json JsonOf(const StoreSet& set) {
  nlohmann::ordered_json json;
  json["number"] = set.number;
  json["world_size"] = set.world_size;
  json["directories"] = set.directories;
  return json;
}

StoreSet SetOf(const nlohmann::json& json) {
  return {.number = json.at("number").get<uint64_t>(),
          .world_size = json.at("world_size").get<uint64_t>(),
          .directories = json.at("directories").get<std::vector<std::string>>()};
}

// Applies `change` to each directory there is.
template <typename Change>
RunStores WithDirectories(RunStores stores, Change&& change) {
  const auto change_all = [&](StoreSet& set) {
    for (std::string& directory : set.directories) directory = change(directory);
  };
  change_all(stores.current);
  for (StoreSet& set : stores.leftovers) change_all(set);
  return stores;
}

}  // namespace

std::string StoreIdOf(std::string_view run_id, const StoreSet& set) {
  return set.number == 1 ? std::string(run_id) : fmt::format("{}.{}", run_id, set.number);
}

std::string ToJson(const RunStores& stores) {
  nlohmann::ordered_json json;
  json["current"] = JsonOf(stores.current);
  json["leftovers"] = nlohmann::ordered_json::array();
  for (const StoreSet& set : stores.leftovers) json["leftovers"].push_back(JsonOf(set));
  return json.dump(2) + "\n";
}

Result<RunStores> ParseRunStores(std::string_view text) {
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) return DataLoss("the list of the run's stores is not JSON");
  try {
    RunStores stores{.current = SetOf(json.at("current"))};
    for (const nlohmann::json& set : json.at("leftovers")) stores.leftovers.push_back(SetOf(set));
    return stores;
  } catch (const std::exception& error) {
    return DataLoss(fmt::format("the list of the run's stores is damaged: {}", error.what()));
  }
}

Result<RunStores> LoadRunStores(const RunDirectory& directory) {
  Result<std::string> text = aio::ReadSmallFile(directory.StoresPath(), kMaxBytes);
  if (text.ok()) {
    STRATA_ASSIGN_OR_RETURN(RunStores stores, ParseRunStores(*text).With(directory.StoresPath()));
    return WithDirectories(std::move(stores), [&](const std::string& path) {
      return path.starts_with('/') ? path : directory.path() + "/" + path;
    });
  }
  if (text.status().code() != Code::kNotFound) return text.status();
  if (!directory.HasConfig()) return NotFound(fmt::format("{} has no state yet", directory.path()));
  STRATA_ASSIGN_OR_RETURN(RunConfig config, LoadRunConfig(directory.ConfigPath()));
  return RunStores{.current = {.world_size = config.train.world_size,
                               .directories = StoreDirectoriesOf(config)}};
}

Status SaveRunStores(const RunDirectory& directory, const RunStores& stores) {
  const std::string inside = directory.path() + "/";
  const RunStores relative = WithDirectories(stores, [&](const std::string& path) {
    return path.starts_with(inside) ? path.substr(inside.size()) : path;
  });
  return aio::WriteFileAtomically(directory.StoresPath(), ToJson(relative));
}

}  // namespace strata::engine
