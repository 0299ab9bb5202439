#include "engine/checkpoint/internal/tensor_manifest.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <charconv>
#include <nlohmann/json.hpp>

#include "aio/base/units.h"

namespace strata::engine {
namespace {

using nlohmann::ordered_json;

constexpr std::string_view kFormat = "strata tensor directory";
constexpr uint64_t kVersion = 1;
constexpr size_t kHexDigits = 16;

std::string Hex(uint64_t hash) { return fmt::format("{:016x}", hash); }

// One text for all pieces of a file: of a model of 10^12 weights there are millions.
std::string HexOf(const std::vector<uint64_t>& hashes) {
  std::string text;
  text.reserve(hashes.size() * kHexDigits);
  for (uint64_t hash : hashes) text += Hex(hash);
  return text;
}

Result<std::vector<uint64_t>> HashesOf(std::string_view text) {
  std::vector<uint64_t> hashes(text.size() / kHexDigits);
  for (size_t i = 0; i < hashes.size(); ++i) {
    const char* begin = text.data() + i * kHexDigits;
    auto [stop, error] = std::from_chars(begin, begin + kHexDigits, hashes[i], 16);
    if (error != std::errc() || stop != begin + kHexDigits)
      return DataLoss("a checksum is not one");
  }
  if (text.size() % kHexDigits != 0) return DataLoss("a checksum is cut off");
  return hashes;
}

// Of everything but the checksum itself, however it is spaced.
std::string ChecksumOf(ordered_json json) {
  json.erase("xxh3");
  const std::string text = json.dump();
  return Hex(XXH3_64bits(text.data(), text.size()));
}

Result<TensorManifest::File> FileOf(const ordered_json& json) {
  TensorManifest::File file{.name = json.at("name").get<std::string>(),
                            .size_bytes = json.at("bytes").get<uint64_t>(),
                            .header_bytes = json.at("header_bytes").get<uint64_t>(),
                            .header_hash = 0,
                            .piece_hashes = {}};
  STRATA_ASSIGN_OR_RETURN(std::vector<uint64_t> of_header,
                          HashesOf(json.at("xxh3_of_header").get<std::string>()));
  STRATA_ASSIGN_OR_RETURN(file.piece_hashes,
                          HashesOf(json.at("xxh3_of_pieces").get<std::string>()));
  if (of_header.size() != 1 || file.header_bytes > file.size_bytes)
    return DataLoss(
        fmt::format("the checksums of {} are not those of {} bytes", file.name, file.size_bytes));
  file.header_hash = of_header[0];
  return file;
}

Result<TensorManifest> ManifestOf(const ordered_json& json) {
  if (json.at("xxh3").get<std::string>() != ChecksumOf(json))
    return DataLoss("its checksum is not that of what it says");
  TensorManifest manifest{.about = json.at("about").dump(), .files = {}};
  for (const ordered_json& one : json.at("files")) {
    STRATA_ASSIGN_OR_RETURN(TensorManifest::File file, FileOf(one));
    manifest.files.push_back(std::move(file));
  }
  return manifest;
}

Status CheckVersion(const ordered_json& json) {
  if (!json.is_object() || json.value("format", "") != kFormat)
    return InvalidArgument(fmt::format("not the manifest of a {}", kFormat));
  const auto version = json.at("version").get<uint64_t>();
  const auto piece_bytes = json.at("piece_bytes").get<uint64_t>();
  if (version == kVersion && piece_bytes == TensorManifest::kPieceBytes) return OkStatus();
  return Unimplemented(
      fmt::format("version {} with pieces of {} bytes; this program reads version {} with {}",
                  version, piece_bytes, kVersion, TensorManifest::kPieceBytes));
}

}  // namespace

std::string ToJson(const TensorManifest& manifest) {
  ordered_json json;
  json["format"] = kFormat;
  json["version"] = kVersion;
  json["about"] = ordered_json::parse(manifest.about);
  json["piece_bytes"] = TensorManifest::kPieceBytes;
  json["files"] = ordered_json::array();
  for (const TensorManifest::File& file : manifest.files) {
    json["files"].push_back({{"name", file.name},
                             {"bytes", file.size_bytes},
                             {"header_bytes", file.header_bytes},
                             {"xxh3_of_header", Hex(file.header_hash)},
                             {"xxh3_of_pieces", HexOf(file.piece_hashes)}});
  }
  json["xxh3"] = ChecksumOf(json);
  return json.dump(1) + "\n";
}

Result<TensorManifest> ParseTensorManifest(std::string_view text, std::string_view source) {
  const ordered_json json = ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) return DataLoss(fmt::format("{} is damaged: not JSON", source));
  try {
    STRATA_RETURN_IF_ERROR(CheckVersion(json).With(source));
    return ManifestOf(json).With(fmt::format("{} is damaged", source));
  } catch (const nlohmann::json::exception& error) {
    return DataLoss(fmt::format("{} is damaged: {}", source, error.what()));
  }
}

}  // namespace strata::engine
