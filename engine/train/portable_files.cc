#include "engine/train/portable_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

namespace strata::engine {
namespace {

constexpr StateKind kKinds[] = {StateKind::kWeights, StateKind::kMaster, StateKind::kRemainder,
                                StateKind::kM, StateKind::kV};

std::string_view NameOf(StateKind kind) {
  switch (kind) {
    case StateKind::kWeights:
      return "w";
    case StateKind::kMaster:
      return "master";
    case StateKind::kRemainder:
      return "lo";
    case StateKind::kM:
      return "m";
    case StateKind::kV:
      break;
  }
  return "v";
}

std::string_view DTypeNameOf(const LayoutOptions& options, StateKind kind) {
  if (kind == StateKind::kWeights) return SafetensorsName(options.precision);
  if (kind == StateKind::kRemainder) return "I16";
  return IsCoded(options, kind) ? "U8" : "F32";
}

class FileBuilder {
 public:
  FileBuilder(const StateLayout& layout, uint32_t rank, uint32_t num_files)
      : layout_(layout), rank_(rank), num_files_(num_files) {
    file_.file.name = PortableFileName(rank, num_files);
  }

  void AddUnit(uint32_t unit) {
    const uint64_t all = layout_.unit_specs[unit].num_elements;
    const uint64_t shard = ShardElements(all, num_files_);
    const uint64_t begin = std::min(all, rank_ * shard), end = std::min(all, begin + shard);
    if (begin == end) return;
    for (StateKind kind : kKinds) {
      if (!HasKind(layout_.options, kind)) continue;
      Add({unit, kind, /*is_scales=*/false, begin, end - begin});
      if (IsCoded(layout_.options, kind)) Add({unit, kind, /*is_scales=*/true, begin, end - begin});
    }
  }

  PortableFile Take() && { return std::move(file_); }

 private:
  void Add(const PortableTensor& tensor) {
    const LayoutOptions& options = layout_.options;
    const bool is_coded = IsCoded(options, tensor.kind);
    const uint64_t count =
        tensor.is_scales ? tensor.num_elements / kScaledElements : tensor.num_elements;
    const uint64_t bytes = is_coded ? count : BytesOf(options, tensor.kind, count);
    file_.file.entries.push_back(
        {.name = fmt::format("{}/{}{}", layout_.unit_specs[tensor.unit].name, NameOf(tensor.kind),
                             tensor.is_scales ? ".scale" : ""),
         .dtype = std::string(DTypeNameOf(options, tensor.kind)),
         .shape = {count},
         .offset_bytes = size_bytes_,
         .size_bytes = bytes});
    file_.tensors.push_back(tensor);
    size_bytes_ += bytes;
  }

  const StateLayout& layout_;
  const uint32_t rank_;
  const uint32_t num_files_;
  PortableFile file_;
  uint64_t size_bytes_ = 0;
};

}  // namespace

std::string PortableFileName(uint32_t rank, uint32_t num_files) {
  return fmt::format("rank-{}-of-{}.safetensors", rank, num_files);
}

std::vector<PortableFile> PortableFilesOf(const StateLayout& layout, uint32_t num_files) {
  std::vector<PortableFile> files;
  for (uint32_t rank = 0; rank < num_files; ++rank) {
    FileBuilder builder(layout, rank, num_files);
    for (uint32_t unit = 0; unit < layout.unit_specs.size(); ++unit) builder.AddUnit(unit);
    files.push_back(std::move(builder).Take());
  }
  return files;
}

}  // namespace strata::engine
