#include "engine/checkpoint/internal/checked_file.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <cstring>

#include "aio/base/units.h"
#include "engine/checkpoint/internal/file_bytes.h"

namespace strata::engine {
namespace {

constexpr uint64_t kLengthBytes = 8;
constexpr uint64_t kPieceBytes = TensorManifest::kPieceBytes;

}  // namespace

Result<CheckedFile> CheckedFile::Open(const std::string& directory,
                                      const TensorManifest::File& about) {
  const std::string path = directory + "/" + about.name;
  Result<aio::File> file = aio::File::Open(path, {.direct = false});
  if (!file.ok() && file.status().code() == Code::kNotFound)
    return DataLoss(fmt::format("{} is missing: copy the directory again, whole", path));
  STRATA_RETURN_IF_ERROR(file.status());
  STRATA_ASSIGN_OR_RETURN(const uint64_t size_bytes, file->SizeBytes());
  if (size_bytes == about.size_bytes) return CheckedFile(std::move(*file), about);
  return DataLoss(fmt::format("{} has {} bytes, it was written with {}: copy it again", path,
                              size_bytes, about.size_bytes));
}

Status CheckedFile::ReadHeader() {
  std::string header(about_.header_bytes, '\0');
  STRATA_RETURN_IF_ERROR(ReadFully(file_, 0, std::as_writable_bytes(std::span(header))));
  if (header.size() < kLengthBytes ||
      XXH3_64bits(header.data(), header.size()) != about_.header_hash)
    return DataLoss(fmt::format("{}: its header, bytes 0 to {}, is not what was written",
                                file_.path(), header.size()));
  const std::string_view json = std::string_view(header).substr(kLengthBytes);
  STRATA_ASSIGN_OR_RETURN(entries_, ParseSafetensorsHeader(json, about_.size_bytes, file_.path()));
  for (size_t entry = 0; entry < entries_.size(); ++entry) {
    first_piece_.push_back(pieces_.size());
    const uint64_t size_bytes = entries_[entry].size_bytes;
    for (uint64_t at = 0; at < size_bytes; at += kPieceBytes)
      pieces_.push_back({entry, at, std::min(kPieceBytes, size_bytes - at)});
  }
  if (pieces_.size() == about_.piece_hashes.size()) return OkStatus();
  return DataLoss(fmt::format("{} has {} pieces, and the manifest {} checksums of them",
                              file_.path(), pieces_.size(), about_.piece_hashes.size()));
}

Status CheckedFile::Load(size_t number, std::vector<std::byte>& into) const {
  const Piece& piece = pieces_[number];
  const SafetensorsEntry& entry = entries_[piece.entry];
  const uint64_t at = about_.header_bytes + entry.offset_bytes + piece.offset_bytes;
  into.resize(piece.size_bytes);
  STRATA_RETURN_IF_ERROR(ReadFully(file_, at, into));
  if (XXH3_64bits(into.data(), into.size()) == about_.piece_hashes[number]) return OkStatus();
  return DataLoss(fmt::format(
      "{}: tensor '{}' is not what was written, in its bytes {} to {} (of the file: {} to {})",
      file_.path(), entry.name, piece.offset_bytes, piece.offset_bytes + piece.size_bytes, at,
      at + piece.size_bytes));
}

}  // namespace strata::engine
