// A portable checkpoint read as any other committed state.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "engine/model/units.h"
#include "engine/train/planning.h"
#include "engine/train/portable_about.h"
#include "engine/train/portable_checkpoint.h"
#include "engine/train/portable_files.h"

namespace strata::engine {
namespace {

using Bytes = std::span<std::byte>;

constexpr size_t kNumKinds = 5;

StateLayout LayoutOf(const RunConfig& config, uint32_t ranks) {
  return MakeStateLayout(UnitsOf(config.model.llama, PartElementsOf(config)),
                         {.precision = DTypeOf(config.train.precision),
                          .format = *config.optimizer.state,
                          .world_size = ranks,
                          .stage = 3});
}

bool AreSame(const SafetensorsEntry& a, const SafetensorsEntry& b) {
  return a.name == b.name && a.dtype == b.dtype && a.shape == b.shape &&
         a.offset_bytes == b.offset_bytes;
}

Status CheckEntries(const TensorDirectory& directory, size_t number, const TensorFile& expected) {
  const std::string path = directory.path() + "/" + expected.name;
  const std::vector<SafetensorsEntry>& entries = directory.entries(number);
  for (size_t i = 0; i < std::min(entries.size(), expected.entries.size()); ++i) {
    if (AreSame(entries[i], expected.entries[i])) continue;
    return DataLoss(fmt::format("{} holds tensor '{}' where '{}' belongs", path, entries[i].name,
                                expected.entries[i].name));
  }
  if (entries.size() == expected.entries.size()) return OkStatus();
  return DataLoss(fmt::format("{} holds {} tensors, it should hold {}", path, entries.size(),
                              expected.entries.size()));
}

// Files of other names, or cut in another way, are of another program.
Status CheckFiles(const TensorDirectory& directory, const std::vector<PortableFile>& files) {
  const std::vector<TensorManifest::File>& there = directory.manifest().files;
  for (size_t number = 0; number < files.size(); ++number) {
    const TensorFile& expected = files[number].file;
    if (there[number].name != expected.name)
      return DataLoss(fmt::format("{} has {} where {} belongs", directory.path(),
                                  there[number].name, expected.name));
    STRATA_RETURN_IF_ERROR(CheckEntries(directory, number, expected));
  }
  return OkStatus();
}

class PortableState final : public SavedState {
 public:
  PortableState(RunRecord record, StateLayout layout, std::unique_ptr<TensorDirectory> directory,
                const std::vector<PortableFile>& files)
      : SavedState(std::move(record), std::move(layout)),
        directory_(std::move(directory)),
        places_(files.size() * this->layout().unit_specs.size() * kNumKinds) {
    for (size_t file = 0; file < files.size(); ++file) Index(file, files[file].tensors);
  }

  Status Read(uint32_t unit, StateKind kind, uint64_t first, uint64_t num_elements,
              Bytes out) override;
  // Whatever is given out has been checked just then: nobody need do it before.
  Status Check(uint32_t, uint32_t, const std::function<void(uint64_t, uint64_t)>&) override {
    return OkStatus();
  }
  void MarkChecked() override {}

 private:
  // Entries of a file; one that it lacks is not asked for.
  struct Place {
    size_t values = 0;  // or codes
    size_t scales = 0;
  };
  Place& PlaceOf(size_t file, uint32_t unit, StateKind kind) {
    return places_[(file * layout().unit_specs.size() + unit) * kNumKinds +
                   static_cast<size_t>(kind)];
  }
  void Index(size_t file, const std::vector<PortableTensor>& tensors) {
    for (size_t i = 0; i < tensors.size(); ++i) {
      Place& place = PlaceOf(file, tensors[i].unit, tensors[i].kind);
      (tensors[i].is_scales ? place.scales : place.values) = i;
    }
  }

  std::unique_ptr<TensorDirectory> directory_;
  std::vector<Place> places_;
};

Status PortableState::Read(uint32_t unit, StateKind kind, uint64_t first, uint64_t num_elements,
                           Bytes out) {
  const LayoutOptions& options = layout().options;
  STRATA_CHECK(HasKind(options, kind) && out.size() == BytesOf(options, kind, num_elements));
  const bool is_coded = IsCoded(options, kind);
  const uint64_t bytes = is_coded ? 1 : BytesOf(options, kind, 1);
  const uint64_t all = layout().unit_specs[unit].num_elements;
  const uint64_t end = std::min(first + num_elements, all);
  if (end < first + num_elements) std::memset(out.data(), 0, out.size());
  const uint64_t shard = ShardElements(all, options.world_size);
  for (uint64_t at = first; at < end;) {
    const uint64_t rank = at / shard, in_file = at - rank * shard;
    const uint64_t count = std::min((rank + 1) * shard, end) - at;
    const std::vector<SafetensorsEntry>& entries = directory_->entries(rank);
    const Place& place = PlaceOf(rank, unit, kind);
    STRATA_RETURN_IF_ERROR(directory_->Read(rank, entries[place.values], in_file * bytes,
                                            out.subspan((at - first) * bytes, count * bytes)));
    if (is_coded) {
      STRATA_RETURN_IF_ERROR(directory_->Read(
          rank, entries[place.scales], in_file / kScaledElements,
          out.subspan(num_elements + (at - first) / kScaledElements, count / kScaledElements)));
    }
    at += count;
  }
  return OkStatus();
}

Status CheckUnits(const std::string& path, const PortableAbout& about, const StateLayout& layout) {
  if (about.units == UnitsJson(layout)) return OkStatus();
  return FailedPrecondition(fmt::format(
      "{} was made by a version of Strata that cuts this model into other units: export "
      "it as weights with that version ('strata export')",
      path));
}

}  // namespace

Result<std::unique_ptr<SavedState>> OpenPortableState(const std::string& path,
                                                      const RunConfig& config, uint32_t num_pages) {
  STRATA_ASSIGN_OR_RETURN(std::unique_ptr<TensorDirectory> directory,
                          TensorDirectory::Open(path, num_pages));
  STRATA_ASSIGN_OR_RETURN(PortableAbout about,
                          ParsePortableAbout(directory->manifest().about).With(path));
  STRATA_RETURN_IF_ERROR(CheckSameState(about.record, MakeRunRecord(config, 0, {})).With(path));
  if (about.ranks == 0 || about.ranks != directory->manifest().files.size()) {
    return DataLoss(fmt::format("{} is of {} ranks and has {} files", path, about.ranks,
                                directory->manifest().files.size()));
  }
  StateLayout layout = LayoutOf(config, about.ranks);
  STRATA_RETURN_IF_ERROR(CheckUnits(path, about, layout));
  const std::vector<PortableFile> files = PortableFilesOf(layout, about.ranks);
  STRATA_RETURN_IF_ERROR(CheckFiles(*directory, files));
  return std::unique_ptr<SavedState>(std::make_unique<PortableState>(
      std::move(about.record), std::move(layout), std::move(directory), files));
}

}  // namespace strata::engine
