#include "engine/checkpoint/internal/shard_set.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <filesystem>
#include <set>

#include "engine/checkpoint/internal/strict_json.h"

namespace strata::engine {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr uint64_t kMaxIndexBytes = 100'000'000;

bool Exists(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error);
}

// Only names in the same directory: an index from elsewhere does not choose what else is read.
bool IsFileName(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == name.npos &&
         name.find('\0') == name.npos;
}

Result<std::map<std::string, std::string>> ReadWeightMap(const std::string& index_path) {
  STRATA_ASSIGN_OR_RETURN(std::string text, aio::ReadSmallFile(index_path, kMaxIndexBytes));
  STRATA_ASSIGN_OR_RETURN(json index, ParseStrictJson(text, index_path));
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object())
    return InvalidArgument(fmt::format("{}: has no object 'weight_map'", index_path));
  std::map<std::string, std::string> weight_map;
  for (const auto& [tensor, file] : index["weight_map"].items()) {
    if (!file.is_string() || !IsFileName(file.get_ref<const std::string&>()))
      return InvalidArgument(fmt::format(
          "{}: weight_map: tensor '{}' is not mapped to the name of a file beside the index",
          index_path, tensor));
    weight_map.emplace(tensor, file.get<std::string>());
  }
  return weight_map;
}

std::string FileName(const SafetensorsFile& file) { return fs::path(file.path()).filename(); }

}  // namespace

Result<ShardSet> ShardSet::Open(const std::string& directory) {
  std::string single_path = fs::path(directory) / "model.safetensors";
  std::string index_path = fs::path(directory) / "model.safetensors.index.json";
  if (!Exists(single_path)) {
    if (Exists(index_path)) return OpenIndexed(directory, index_path);
    return NotFound(fmt::format(
        "{}: neither model.safetensors nor model.safetensors.index.json is there. Weights in other "
        "formats (pytorch_model.bin) are to be saved as safetensors first",
        directory));
  }
  ShardSet shards;
  STRATA_ASSIGN_OR_RETURN(SafetensorsFile file, SafetensorsFile::Open(single_path));
  shards.files_.push_back(std::move(file));
  for (const SafetensorsEntry& entry : shards.files_[0].entries())
    shards.tensors_[entry.name] = {&shards.files_[0], &entry};
  return shards;
}

Result<ShardSet> ShardSet::OpenIndexed(const std::string& directory,
                                       const std::string& index_path) {
  STRATA_ASSIGN_OR_RETURN(WeightMap weight_map, ReadWeightMap(index_path));
  ShardSet shards;
  STRATA_RETURN_IF_ERROR(shards.OpenShards(directory, weight_map).With(index_path));
  STRATA_RETURN_IF_ERROR(shards.LocateTensors(weight_map).With(index_path));
  return shards;
}

Status ShardSet::OpenShards(const std::string& directory, const WeightMap& weight_map) {
  std::set<std::string> names;
  for (const auto& [tensor, name] : weight_map) names.insert(name);
  std::vector<std::string> absent;
  for (const std::string& name : names) {
    if (!Exists(fs::path(directory) / name)) absent.push_back(name);
  }
  if (!absent.empty())
    return NotFound(fmt::format("{} of the {} files it names are not there: {}", absent.size(),
                                names.size(), fmt::join(absent, ", ")));
  for (const std::string& name : names) {
    STRATA_ASSIGN_OR_RETURN(SafetensorsFile file,
                            SafetensorsFile::Open(fs::path(directory) / name));
    files_.push_back(std::move(file));
  }
  return OkStatus();
}

Status ShardSet::LocateTensors(const WeightMap& weight_map) {
  for (const SafetensorsFile& file : files_) {
    for (const SafetensorsEntry& entry : file.entries()) {
      auto mapped = weight_map.find(entry.name);
      if (mapped == weight_map.end() || mapped->second != FileName(file))
        return InvalidArgument(fmt::format(
            "tensor '{}' is in {}, where the index says {}", entry.name, FileName(file),
            mapped == weight_map.end() ? "nothing of it" : "it is in " + mapped->second));
      tensors_[entry.name] = {&file, &entry};
    }
  }
  for (const auto& [tensor, name] : weight_map) {
    if (!tensors_.contains(tensor))
      return NotFound(fmt::format("tensor '{}' should be in {}, but is not", tensor, name));
  }
  return OkStatus();
}

}  // namespace strata::engine
