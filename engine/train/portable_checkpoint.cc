#include "engine/train/portable_checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "engine/train/portable_about.h"
#include "engine/train/portable_files.h"

namespace strata::engine {
namespace {

constexpr uint64_t kPortionElements = 1ULL << 20;
// More files than anyone has ranks is a mistyped number.
constexpr uint32_t kMaxFiles = 1U << 16;

uint64_t TotalBytes(const std::vector<PortableFile>& files) {
  uint64_t bytes = 0;
  for (const PortableFile& file : files)
    for (const SafetensorsEntry& entry : file.file.entries) bytes += entry.size_bytes;
  return bytes;
}

// Hands tensors of a state to a directory's writer, a portion after the other.
class StateCopier {
 public:
  StateCopier(SavedState& state, const std::vector<PortableFile>& files,
              const std::function<void(uint64_t, uint64_t)>& on_progress)
      : state_(state), on_progress_(on_progress), total_(TotalBytes(files)) {}

  Status Copy(const PortableTensor& tensor, const TensorSink& sink) {
    const LayoutOptions& options = state_.layout().options;
    for (uint64_t at = 0; at < tensor.num_elements; at += kPortionElements) {
      const uint64_t count = std::min(kPortionElements, tensor.num_elements - at);
      portion_.resize(BytesOf(options, tensor.kind, count));
      STRATA_RETURN_IF_ERROR(
          state_.Read(tensor.unit, tensor.kind, tensor.first + at, count, portion_));
      std::span<const std::byte> bytes = portion_;
      if (IsCoded(options, tensor.kind))
        bytes = tensor.is_scales ? bytes.subspan(count) : bytes.first(count);
      STRATA_RETURN_IF_ERROR(sink(bytes));
      done_ += bytes.size();
      if (on_progress_) on_progress_(done_, total_);
    }
    return OkStatus();
  }

  uint64_t total_bytes() const { return total_; }

 private:
  SavedState& state_;
  const std::function<void(uint64_t, uint64_t)>& on_progress_;
  const uint64_t total_;
  uint64_t done_ = 0;
  std::vector<std::byte> portion_;
};

std::map<std::string, std::string> MetadataOf(const RunRecord& record, size_t rank, size_t ranks) {
  return {{"strata_rank", std::to_string(rank)},
          {"strata_ranks", std::to_string(ranks)},
          {"strata_step", std::to_string(record.step)},
          {"strata_precision", record.precision},
          {"strata_state_format", record.state_format}};
}

}  // namespace

Result<ExportCheckpointSummary> ExportCheckpoint(const ExportCheckpointOptions& options) {
  STRATA_ASSIGN_OR_RETURN(SavedRun run, OpenSavedRun(options.run_dir, options.step));
  const RunRecord& record = run.state->record();
  const StateLayout& layout = run.state->layout();
  const uint32_t ranks = options.ranks.value_or(static_cast<uint32_t>(record.world_size));
  if (ranks == 0 || ranks > kMaxFiles)
    return InvalidArgument(
        fmt::format("{} ranks: from 1 to {} files can be made", ranks, kMaxFiles));
  std::vector<PortableFile> files = PortableFilesOf(layout, ranks);
  std::vector<TensorFile> described;
  for (const PortableFile& file : files) {
    described.push_back(file.file);
    described.back().metadata = MetadataOf(record, described.size() - 1, ranks);
  }
  StateCopier copier(*run.state, files, options.on_progress);
  STRATA_RETURN_IF_ERROR(
      WriteTensorDirectory(options.to, described, ToJson(record, layout, ranks),
                           [&](size_t file, size_t entry, const TensorSink& sink) {
                             return copier.Copy(files[file].tensors[entry], sink);
                           }));
  return ExportCheckpointSummary{
      .step = record.step, .ranks = ranks, .size_bytes = copier.total_bytes()};
}

Result<PortableRecord> ReadPortableRecord(const std::string& path) {
  STRATA_ASSIGN_OR_RETURN(TensorManifest manifest, ReadTensorManifest(path));
  STRATA_ASSIGN_OR_RETURN(PortableAbout about, ParsePortableAbout(manifest.about).With(path));
  return PortableRecord{std::move(about.record), about.ranks, manifest.size_bytes(),
                        CheckTensorFiles(path, manifest).message()};
}

}  // namespace strata::engine
