// The safetensors files of a Hugging Face directory, as one set of tensors.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "aio/base/status.h"
#include "engine/checkpoint/safetensors.h"

namespace strata::engine {

class ShardSet {
 public:
  struct Place {
    const SafetensorsFile* file;
    const SafetensorsEntry* entry;
  };

  // model.safetensors or, if there is none, the files that model.safetensors.index.json names, each
  // of which must hold exactly the tensors that the index says.
  static Result<ShardSet> Open(const std::string& directory);

  const std::map<std::string, Place, std::less<>>& tensors() const { return tensors_; }

 private:
  using WeightMap = std::map<std::string, std::string>;  // tensor -> file name

  static Result<ShardSet> OpenIndexed(const std::string& directory, const std::string& index_path);
  Status OpenShards(const std::string& directory, const WeightMap& weight_map);
  Status LocateTensors(const WeightMap& weight_map);

  std::vector<SafetensorsFile> files_;  // moving a ShardSet leaves them where they are: Place
  std::map<std::string, Place, std::less<>> tensors_;
};

}  // namespace strata::engine
