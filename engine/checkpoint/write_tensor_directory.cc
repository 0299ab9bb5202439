#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <utility>

#include "aio/base/units.h"
#include "aio/file.h"
#include "engine/checkpoint/internal/file_bytes.h"
#include "engine/checkpoint/internal/partial_directory.h"
#include "engine/checkpoint/internal/tensor_manifest.h"
#include "engine/checkpoint/tensor_directory.h"

namespace strata::engine {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kPieceBytes = TensorManifest::kPieceBytes;

// The data of one file, written from its beginning to its end in whole pieces.
class PieceWriter {
 public:
  PieceWriter(const aio::File& file, uint64_t header_bytes, std::vector<std::byte>& buffer)
      : file_(file), header_bytes_(header_bytes), buffer_(buffer) {}

  Status Append(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const size_t now = std::min(bytes.size(), buffer_.size() - filled_);
      std::memcpy(buffer_.data() + filled_, bytes.data(), now);
      filled_ += now;
      bytes = bytes.subspan(now);
      if (filled_ == buffer_.size()) STRATA_RETURN_IF_ERROR(Flush());
    }
    return OkStatus();
  }

  Status Flush() {
    if (filled_ == 0) return OkStatus();
    hashes_.push_back(XXH3_64bits(buffer_.data(), filled_));
    STRATA_RETURN_IF_ERROR(
        WriteFully(file_, header_bytes_ + written_, std::span(buffer_).first(filled_)));
    written_ += filled_;
    filled_ = 0;
    return OkStatus();
  }

  uint64_t size_bytes() const { return written_ + filled_; }
  std::vector<uint64_t> TakeHashes() { return std::move(hashes_); }

 private:
  const aio::File& file_;
  const uint64_t header_bytes_;
  std::vector<std::byte>& buffer_;
  size_t filled_ = 0;
  uint64_t written_ = 0;
  std::vector<uint64_t> hashes_;
};

class DirectoryWriter {
 public:
  DirectoryWriter(const std::string& path, std::span<const TensorFile> files,
                  const TensorWriter& write)
      : path_(path), files_(files), write_(write), buffer_(kPieceBytes) {}

  Result<TensorManifest::File> Write(size_t number) {
    const TensorFile& about = files_[number];
    STRATA_ASSIGN_OR_RETURN(aio::File file, aio::File::Open(path_ + "/" + about.name,
                                                            {.access = aio::FileAccess::kReadWrite,
                                                             .create = aio::FileCreate::kCreateNew,
                                                             .direct = false}));
    const std::string header = MakeSafetensorsHeader(about.entries, about.metadata);
    STRATA_RETURN_IF_ERROR(WriteFully(file, 0, std::as_bytes(std::span(header))));
    PieceWriter pieces(file, header.size(), buffer_);
    for (size_t entry = 0; entry < about.entries.size(); ++entry)
      STRATA_RETURN_IF_ERROR(WriteEntry(number, entry, pieces));
    STRATA_RETURN_IF_ERROR(file.SyncData());
    return TensorManifest::File{about.name, header.size() + pieces.size_bytes(), header.size(),
                                XXH3_64bits(header.data(), header.size()), pieces.TakeHashes()};
  }

 private:
  Status WriteEntry(size_t number, size_t at, PieceWriter& pieces) {
    const SafetensorsEntry& entry = files_[number].entries[at];
    STRATA_CHECK(pieces.size_bytes() == entry.offset_bytes);
    STRATA_RETURN_IF_ERROR(write_(number, at, [&](std::span<const std::byte> bytes) {
                             return pieces.Append(bytes);
                           }).With(fmt::format("tensor '{}'", entry.name)));
    STRATA_RETURN_IF_ERROR(pieces.Flush());  // none is of two tensors
    STRATA_CHECK(pieces.size_bytes() == entry.offset_bytes + entry.size_bytes);
    return OkStatus();
  }

  const std::string& path_;
  std::span<const TensorFile> files_;
  const TensorWriter& write_;
  std::vector<std::byte> buffer_;
};

// Of the manifest what grows with the tensors is their checksums, 16 characters each.
uint64_t BytesNeeded(std::span<const TensorFile> files, std::string_view about) {
  uint64_t bytes = about.size() + kPieceBytes;
  for (const TensorFile& file : files) {
    bytes += MakeSafetensorsHeader(file.entries, file.metadata).size();
    if (file.entries.empty()) continue;
    const uint64_t data = file.entries.back().offset_bytes + file.entries.back().size_bytes;
    bytes += data + (CeilDiv(data, kPieceBytes) + file.entries.size()) * 16;
  }
  return bytes;
}

Status CheckSpace(const std::string& path, uint64_t needed) {
  std::error_code error;
  const fs::space_info space = fs::space(path, error);
  if (error) return ErrnoStatus(error.value(), "looking for space in " + path);
  if (space.available >= needed) return OkStatus();
  return ResourceExhausted(
      fmt::format("it takes {}, and the file system has {} left: make room, or name a directory on "
                  "another one",
                  FormatBytes(needed), FormatBytes(space.available)));
}

Status WriteAll(const std::string& path, std::span<const TensorFile> files, std::string_view about,
                const TensorWriter& write) {
  STRATA_RETURN_IF_ERROR(CheckSpace(path, BytesNeeded(files, about)));
  TensorManifest manifest{.about = std::string(about), .files = {}};
  DirectoryWriter writer(path, files, write);
  for (size_t number = 0; number < files.size(); ++number) {
    STRATA_ASSIGN_OR_RETURN(TensorManifest::File file,
                            writer.Write(number).With(files[number].name));
    manifest.files.push_back(std::move(file));
  }
  return aio::WriteFileAtomically(fmt::format("{}/{}", path, kTensorManifestName),
                                  ToJson(manifest));
}

}  // namespace

Status WriteTensorDirectory(const std::string& path, std::span<const TensorFile> files,
                            std::string_view about, const TensorWriter& write) {
  STRATA_ASSIGN_OR_RETURN(PartialDirectory directory, PartialDirectory::Create(path));
  STRATA_RETURN_IF_ERROR(WriteAll(directory.path(), files, about, write).With("writing " + path));
  return std::move(directory).Publish();
}

}  // namespace strata::engine
