#include "engine/checkpoint/tensor_directory.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <utility>

#include "aio/file.h"
#include "engine/checkpoint/internal/checked_file.h"
#include "engine/checkpoint/internal/partial_directory.h"
#include "engine/checkpoint/internal/tensor_manifest.h"

namespace strata::engine {
namespace {

constexpr uint64_t kPieceBytes = TensorManifest::kPieceBytes;
constexpr uint64_t kMaxManifestBytes = 4ULL << 30;

std::string ManifestPath(const std::string& directory) {
  return fmt::format("{}/{}", directory, kTensorManifestName);
}

}  // namespace

uint64_t TensorManifest::size_bytes() const {
  uint64_t bytes = 0;
  for (const File& file : files) bytes += file.size_bytes;
  return bytes;
}

bool HoldsTensorDirectory(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::exists(ManifestPath(path), ignored);
}

Result<TensorManifest> ReadTensorManifest(const std::string& path) {
  Result<std::string> text = aio::ReadSmallFile(ManifestPath(path), kMaxManifestBytes);
  if (!text.ok() && text.status().code() == Code::kNotFound)
    return NotFound(fmt::format("{} is no checkpoint: it has no {}", path, kTensorManifestName));
  STRATA_RETURN_IF_ERROR(text.status());
  return ParseTensorManifest(*text, ManifestPath(path));
}

Status CheckTensorFiles(const std::string& path, const TensorManifest& manifest) {
  for (const TensorManifest::File& about : manifest.files)
    STRATA_RETURN_IF_ERROR(CheckedFile::Open(path, about).status());
  return OkStatus();
}

Status RemoveTensorDirectory(const std::string& path) {
  std::error_code error;
  std::filesystem::remove(ManifestPath(path), error);
  if (error) return ErrnoStatus(error.value(), "remove " + ManifestPath(path));
  STRATA_RETURN_IF_ERROR(SyncDirectory(path));
  std::filesystem::remove_all(path, error);
  return error ? ErrnoStatus(error.value(), "remove " + path) : OkStatus();
}

TensorDirectory::TensorDirectory(std::string path, TensorManifest manifest, uint32_t num_pages)
    : path_(std::move(path)), manifest_(std::move(manifest)), max_pages_(std::max(1u, num_pages)) {}

TensorDirectory::~TensorDirectory() = default;

Result<std::unique_ptr<TensorDirectory>> TensorDirectory::Open(const std::string& path,
                                                               uint32_t num_pages) {
  STRATA_ASSIGN_OR_RETURN(TensorManifest manifest, ReadTensorManifest(path));
  std::unique_ptr<TensorDirectory> directory(
      new TensorDirectory(path, std::move(manifest), num_pages));
  for (const TensorManifest::File& about : directory->manifest_.files) {
    STRATA_ASSIGN_OR_RETURN(CheckedFile file, CheckedFile::Open(path, about));
    STRATA_RETURN_IF_ERROR(file.ReadHeader());
    directory->files_.push_back(std::move(file));
  }
  return directory;
}

const std::vector<SafetensorsEntry>& TensorDirectory::entries(size_t file) const {
  return files_[file].entries();
}

Status TensorDirectory::Read(size_t file, const SafetensorsEntry& entry, uint64_t offset_bytes,
                             std::span<std::byte> out) {
  STRATA_CHECK(offset_bytes + out.size() <= entry.size_bytes);
  const auto number = static_cast<size_t>(&entry - entries(file).data());
  while (!out.empty()) {
    STRATA_ASSIGN_OR_RETURN(std::span<const std::byte> piece,
                            Load(file, files_[file].PieceWith(number, offset_bytes)));
    const std::span<const std::byte> from = piece.subspan(offset_bytes % kPieceBytes);
    const size_t now = std::min(from.size(), out.size());
    std::memcpy(out.data(), from.data(), now);
    out = out.subspan(now);
    offset_bytes += now;
  }
  return OkStatus();
}

Result<std::span<const std::byte>> TensorDirectory::Load(size_t file, size_t piece) {
  auto found = std::ranges::find_if(
      pages_, [&](const Page& page) { return page.file == file && page.piece == piece; });
  if (found == pages_.end()) {
    Page page{.file = file, .piece = piece, .bytes = {}};
    if (pages_.size() == max_pages_) {
      page.bytes = std::move(pages_.back().bytes);
      pages_.pop_back();
    }
    STRATA_RETURN_IF_ERROR(files_[file].Load(piece, page.bytes));
    pages_.push_front(std::move(page));
  } else {
    pages_.splice(pages_.begin(), pages_, found);
  }
  return std::span<const std::byte>(pages_.front().bytes);
}

Status CheckTensorDirectory(const std::string& path,
                            const std::function<void(const Status&)>& on_damage,
                            const std::function<void(uint64_t, uint64_t)>& on_progress) {
  STRATA_ASSIGN_OR_RETURN(TensorManifest manifest, ReadTensorManifest(path));
  const uint64_t total = manifest.size_bytes();
  uint64_t done = 0;
  std::vector<std::byte> piece;
  for (const TensorManifest::File& about : manifest.files) {
    Result<CheckedFile> file = CheckedFile::Open(path, about);
    const Status opened = file.ok() ? file->ReadHeader() : file.status();
    if (!opened.ok()) {
      on_damage(opened);
      done += about.size_bytes;
      continue;
    }
    on_progress(done += about.header_bytes, total);
    for (size_t number = 0; number < file->num_pieces(); ++number) {
      const Status status = file->Load(number, piece);
      if (!status.ok()) on_damage(status);
      on_progress(done += piece.size(), total);
    }
  }
  return OkStatus();
}

}  // namespace strata::engine
