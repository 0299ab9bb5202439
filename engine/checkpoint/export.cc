#include "engine/checkpoint/export.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <nlohmann/json.hpp>

#include "aio/base/units.h"
#include "aio/file.h"
#include "engine/checkpoint/internal/file_bytes.h"
#include "engine/checkpoint/internal/partial_directory.h"
#include "engine/checkpoint/safetensors.h"

namespace strata::engine {
namespace {

// One file: its tensors in the order of the forward pass and, index by index, their entries.
struct Shard {
  std::string file_name;
  std::vector<const TensorSpec*> tensors;
  std::vector<SafetensorsEntry> entries;
  uint64_t data_bytes = 0;

  void Append(const TensorSpec& tensor, DType dtype) {
    uint64_t size_bytes = tensor.num_elements * SizeOf(dtype);
    tensors.push_back(&tensor);
    entries.push_back({.name = tensor.name,
                       .dtype = std::string(SafetensorsName(dtype)),
                       .shape = tensor.shape,
                       .offset_bytes = data_bytes,
                       .size_bytes = size_bytes});
    data_bytes += size_bytes;
  }
};

// A tensor larger than the limit gets a file of its own.
std::vector<Shard> PlanShards(const std::vector<UnitSpec>& units, const ExportOptions& options) {
  std::vector<Shard> shards(1);
  for (const UnitSpec& unit : units) {
    for (const TensorSpec& tensor : unit.tensors) {
      uint64_t size_bytes = tensor.num_elements * SizeOf(options.dtype);
      if (!shards.back().tensors.empty() &&
          shards.back().data_bytes + size_bytes > options.max_shard_bytes)
        shards.emplace_back();
      shards.back().Append(tensor, options.dtype);
    }
  }
  for (size_t i = 0; i < shards.size(); ++i)
    shards[i].file_name =
        shards.size() == 1 ? "model.safetensors"
                           : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
  return shards;
}

uint64_t TotalBytes(const std::vector<Shard>& shards) {
  uint64_t total_bytes = 0;
  for (const Shard& shard : shards) total_bytes += shard.data_bytes;
  return total_bytes;
}

std::string IndexJson(const std::vector<Shard>& shards) {
  nlohmann::json index = {{"metadata", {{"total_size", TotalBytes(shards)}}}};
  for (const Shard& shard : shards) {
    for (const SafetensorsEntry& entry : shard.entries)
      index["weight_map"][entry.name] = shard.file_name;
  }
  return index.dump(2) + "\n";
}

// Copies shards through one buffer.
class ShardWriter {
 public:
  ShardWriter(const TensorReader& read, const ExportOptions& options, uint64_t total_bytes)
      : read_(read),
        options_(options),
        total_bytes_(total_bytes),
        buffer_(std::min(options.buffer_bytes / kPieceMultiple * kPieceMultiple,
                         RoundUp(total_bytes, kPieceMultiple))) {}

  Status Write(const Shard& shard, const std::string& path) {
    STRATA_ASSIGN_OR_RETURN(aio::File file,
                            aio::File::Open(path, {.access = aio::FileAccess::kReadWrite,
                                                   .create = aio::FileCreate::kCreateNew,
                                                   .direct = false}));
    std::string header = MakeSafetensorsHeader(shard.entries);
    // A disk that is too small says so before anything is copied.
    STRATA_RETURN_IF_ERROR(file.Preallocate(header.size() + shard.data_bytes));
    STRATA_RETURN_IF_ERROR(WriteFully(file, 0, std::as_bytes(std::span(header))));
    for (size_t i = 0; i < shard.tensors.size(); ++i)
      STRATA_RETURN_IF_ERROR(
          Copy(*shard.tensors[i], file, header.size() + shard.entries[i].offset_bytes)
              .With(fmt::format("tensor '{}'", shard.tensors[i]->name)));
    return file.SyncData();
  }

 private:
  static constexpr uint64_t kPieceMultiple = sizeof(float);  // whole elements of any dtype

  Status Copy(const TensorSpec& tensor, const aio::File& file, uint64_t offset_bytes) {
    uint64_t size_bytes = tensor.num_elements * SizeOf(options_.dtype);
    for (uint64_t done = 0; done < size_bytes;) {
      std::span<std::byte> piece =
          std::span(buffer_).first(std::min<uint64_t>(buffer_.size(), size_bytes - done));
      STRATA_RETURN_IF_ERROR(read_(tensor, done / SizeOf(options_.dtype), piece));
      STRATA_RETURN_IF_ERROR(WriteFully(file, offset_bytes + done, piece));
      done += piece.size();
      done_bytes_ += piece.size();
      if (options_.on_progress) options_.on_progress(done_bytes_, total_bytes_);
    }
    return OkStatus();
  }

  const TensorReader& read_;
  const ExportOptions& options_;
  uint64_t total_bytes_;
  uint64_t done_bytes_ = 0;
  std::vector<std::byte> buffer_;
};

Status WriteAll(const LlamaConfig& config, const std::vector<Shard>& shards,
                const TensorReader& read, const ExportOptions& options,
                const std::string& directory) {
  ShardWriter writer(read, options, TotalBytes(shards));
  for (const Shard& shard : shards)
    STRATA_RETURN_IF_ERROR(writer.Write(shard, directory + "/" + shard.file_name));
  if (shards.size() > 1)
    STRATA_RETURN_IF_ERROR(
        aio::WriteFileAtomically(directory + "/model.safetensors.index.json", IndexJson(shards)));
  return aio::WriteFileAtomically(directory + "/config.json", ToConfigJson(config, options.dtype));
}

}  // namespace

Status ExportHuggingFace(const LlamaConfig& config, const std::vector<UnitSpec>& units,
                         const TensorReader& read, const ExportOptions& options) {
  STRATA_CHECK(options.buffer_bytes >= 1_MiB);
  STRATA_ASSIGN_OR_RETURN(PartialDirectory directory, PartialDirectory::Create(options.directory));
  STRATA_RETURN_IF_ERROR(
      WriteAll(config, PlanShards(units, options), read, options, directory.path())
          .With("export to " + options.directory));
  return std::move(directory).Publish();
}

}  // namespace strata::engine
