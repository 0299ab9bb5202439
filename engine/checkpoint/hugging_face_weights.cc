#include <fmt/format.h>
#include <fmt/ranges.h>

#include <set>

#include "aio/base/log.h"
#include "engine/checkpoint/internal/shard_set.h"
#include "engine/checkpoint/weight_source.h"

namespace strata::engine {
namespace {

// What is wrong with a directory, seen from a model, in the order it is to be said.
struct Mismatch {
  std::vector<std::string> missing;
  std::vector<std::string> unexpected;
  std::vector<std::string> unfit;  // sentences: wrong shapes and dtypes

  bool empty() const { return missing.empty() && unexpected.empty() && unfit.empty(); }
};

void CheckFit(const TensorSpec& tensor, const ShardSet::Place& place, Mismatch& mismatch) {
  const SafetensorsEntry& entry = *place.entry;
  std::string where = fmt::format("tensor '{}' in {}", tensor.name, place.file->path());
  if (entry.shape != tensor.shape)
    mismatch.unfit.push_back(fmt::format("{} has shape [{}], the model needs [{}]", where,
                                         fmt::join(entry.shape, ", "),
                                         fmt::join(tensor.shape, ", ")));
  if (!DTypeOfSafetensorsName(entry.dtype))
    mismatch.unfit.push_back(
        fmt::format("{} has dtype {}, which is not one of F32, F16 and BF16", where, entry.dtype));
}

// What older transformers versions saved and computes anew, or what a tied model holds twice.
bool IsIgnored(std::string_view name) {
  if (name.ends_with(".rotary_emb.inv_freq")) return true;
  if (name != "lm_head.weight") return false;
  Log(Severity::kInfo, "checkpoint",
      "lm_head.weight is in the files but not read: config.json ties it to the embedding");
  return true;
}

Mismatch Compare(const ShardSet& shards, const std::vector<UnitSpec>& units) {
  Mismatch mismatch;
  std::set<std::string_view> expected;
  for (const UnitSpec& unit : units) {
    for (const TensorSpec& tensor : unit.tensors) {
      expected.insert(tensor.name);
      auto place = shards.tensors().find(tensor.name);
      if (place == shards.tensors().end())
        mismatch.missing.push_back(tensor.name);
      else
        CheckFit(tensor, place->second, mismatch);
    }
  }
  for (const auto& [name, place] : shards.tensors()) {
    if (!expected.contains(name) && !IsIgnored(name)) mismatch.unexpected.push_back(name);
  }
  return mismatch;
}

Status ToStatus(const Mismatch& mismatch) {
  if (mismatch.empty()) return OkStatus();
  std::vector<std::string> parts;
  if (!mismatch.missing.empty())
    parts.push_back(fmt::format("{} tensors of the model are missing: {}", mismatch.missing.size(),
                                fmt::join(mismatch.missing, ", ")));
  if (!mismatch.unexpected.empty())
    parts.push_back(fmt::format("{} tensors are not of this model: {}", mismatch.unexpected.size(),
                                fmt::join(mismatch.unexpected, ", ")));
  parts.insert(parts.end(), mismatch.unfit.begin(), mismatch.unfit.end());
  return Status(mismatch.missing.empty() ? Code::kInvalidArgument : Code::kNotFound,
                fmt::format("the weights do not fit config.json: {}", fmt::join(parts, "; ")));
}

// Thread-safe.
class HuggingFaceWeights : public WeightSource {
 public:
  explicit HuggingFaceWeights(ShardSet shards) : shards_(std::move(shards)) {}

  Status Read(const TensorSpec& tensor, uint64_t first, std::span<float> out) override {
    auto found = shards_.tensors().find(tensor.name);
    STRATA_CHECK(found != shards_.tensors().end());
    const auto& [file, entry] = found->second;
    Status status = file->Read(*entry, first, out);
    if (!status.ok()) return status.With(fmt::format("tensor '{}'", tensor.name));
    return status;
  }

 private:
  ShardSet shards_;
};

}  // namespace

Result<std::unique_ptr<WeightSource>> OpenHuggingFaceWeights(const std::string& directory,
                                                             const std::vector<UnitSpec>& units) {
  STRATA_ASSIGN_OR_RETURN(ShardSet shards, ShardSet::Open(directory));
  STRATA_RETURN_IF_ERROR(ToStatus(Compare(shards, units)).With(directory));
  return std::unique_ptr<WeightSource>(new HuggingFaceWeights(std::move(shards)));
}

}  // namespace strata::engine
