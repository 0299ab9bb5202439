#include "engine/checkpoint/internal/checked_file.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
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
  return OkStatus();
}

Status CheckedFile::Load(uint64_t piece, std::vector<std::byte>& into) const {
  const uint64_t begin = piece * kPieceBytes;
  const uint64_t at = about_.header_bytes + begin;
  into.resize(std::min(kPieceBytes, about_.size_bytes - at));
  STRATA_RETURN_IF_ERROR(ReadFully(file_, at, into));
  if (XXH3_64bits(into.data(), into.size()) == about_.piece_hashes[piece]) return OkStatus();
  return DataLoss(fmt::format("{}: bytes {} to {} are not what was written: {}", file_.path(), at,
                              at + into.size(), TensorsIn(begin, begin + into.size())));
}

// Bytes of the data. Of many small tensors the first and the last.
std::string CheckedFile::TensorsIn(uint64_t begin, uint64_t end) const {
  std::vector<std::string> parts;
  for (const SafetensorsEntry& entry : entries_) {
    const uint64_t at = entry.offset_bytes;
    if (at >= end || at + entry.size_bytes <= begin) continue;
    parts.push_back(fmt::format("tensor '{}' (its bytes {} to {})", entry.name,
                                std::max(at, begin) - at,
                                std::min(at + entry.size_bytes, end) - at));
  }
  if (parts.empty()) return "which tensors, the header does not tell";
  if (parts.size() <= 2) return fmt::format("{}", fmt::join(parts, ", "));
  return fmt::format("{}, {} more, {}", parts.front(), parts.size() - 2, parts.back());
}

}  // namespace strata::engine
