#include "engine/checkpoint/safetensors.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "engine/checkpoint/float16.h"
#include "engine/checkpoint/internal/file_bytes.h"
#include "engine/checkpoint/internal/strict_json.h"

namespace strata::engine {
namespace {

using nlohmann::json;

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

constexpr uint64_t kLengthBytes = 8;
constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the limit of the reference implementation
constexpr uint64_t kAlignmentBytes = 8;

struct NamedSize {
  std::string_view name;
  uint64_t bytes;
};
constexpr std::array<NamedSize, 15> kSizes = {{{"F64", 8},
                                               {"F32", 4},
                                               {"F16", 2},
                                               {"BF16", 2},
                                               {"F8_E4M3", 1},
                                               {"F8_E5M2", 1},
                                               {"I64", 8},
                                               {"I32", 4},
                                               {"I16", 2},
                                               {"I8", 1},
                                               {"U64", 8},
                                               {"U32", 4},
                                               {"U16", 2},
                                               {"U8", 1},
                                               {"BOOL", 1}}};

// What a tensor of this shape and dtype takes, nothing if that overflows. The size of elements that
// this table does not know (there are newer ones below a byte) is the file's own affair.
std::optional<uint64_t> SizeOfEntry(const SafetensorsEntry& entry) {
  auto named = std::find_if(kSizes.begin(), kSizes.end(),
                            [&](const NamedSize& size) { return size.name == entry.dtype; });
  if (named == kSizes.end()) return entry.size_bytes;
  uint64_t bytes = named->bytes;
  for (uint64_t extent : entry.shape) {
    if (__builtin_mul_overflow(bytes, extent, &bytes)) return std::nullopt;
  }
  return bytes;
}

bool IsListOfSizes(const json& value) {
  return value.is_array() && std::all_of(value.begin(), value.end(), [](const json& element) {
           return element.is_number_unsigned();
         });
}

Result<SafetensorsEntry> ParseEntry(const std::string& name, const json& value) {
  if (!value.is_object() || value.size() != 3 || !value.contains("dtype") ||
      !value.contains("shape") || !value.contains("data_offsets"))
    return InvalidArgument("does not have exactly the keys dtype, shape and data_offsets");
  const json& offsets = value["data_offsets"];
  if (!value["dtype"].is_string() || !IsListOfSizes(value["shape"]) || !IsListOfSizes(offsets) ||
      offsets.size() != 2)
    return InvalidArgument(
        "dtype is not a text, or shape or data_offsets are not lists of non-negative integers");
  uint64_t begin = offsets[0].get<uint64_t>();
  uint64_t end = offsets[1].get<uint64_t>();
  if (begin > end) return DataLoss(fmt::format("its data ends at {} before {}", end, begin));
  SafetensorsEntry entry = {.name = name,
                            .dtype = value["dtype"].get<std::string>(),
                            .shape = value["shape"].get<std::vector<uint64_t>>(),
                            .offset_bytes = begin,
                            .size_bytes = end - begin};
  if (SizeOfEntry(entry) != entry.size_bytes)
    return DataLoss(fmt::format("its data has {} bytes, which is not {} of shape [{}]",
                                entry.size_bytes, entry.dtype, fmt::join(entry.shape, ", ")));
  return entry;
}

// Sorts the entries and checks that their data fills the file after the header exactly.
Status CheckCoverage(std::vector<SafetensorsEntry>& entries, uint64_t data_offset_bytes,
                     uint64_t file_size_bytes) {
  std::sort(
      entries.begin(), entries.end(), [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
        return std::pair(a.offset_bytes, a.size_bytes) < std::pair(b.offset_bytes, b.size_bytes);
      });
  uint64_t end = 0;
  for (const SafetensorsEntry& entry : entries) {
    if (entry.offset_bytes != end)
      return DataLoss(fmt::format(
          "tensor '{}': its data starts at {}, but the data before it ends at {}: {}", entry.name,
          entry.offset_bytes, end, entry.offset_bytes < end ? "they overlap" : "there is a gap"));
    end += entry.size_bytes;
  }
  uint64_t present = file_size_bytes - data_offset_bytes;
  if (end == present) return OkStatus();
  return DataLoss(fmt::format(
      "the file is {}: its header describes {} bytes of tensors, after the header are {} (the file "
      "has {}). Copy or download it again",
      end > present ? "cut off" : "too long", end, present, file_size_bytes));
}

Result<uint64_t> ReadHeaderLength(const aio::File& file, uint64_t file_size_bytes) {
  if (file_size_bytes < kLengthBytes)
    return DataLoss(
        fmt::format("not a safetensors file, or cut off: it has {} bytes, the length "
                    "of its header alone takes {}",
                    file_size_bytes, kLengthBytes));
  std::array<std::byte, kLengthBytes> bytes;
  STRATA_RETURN_IF_ERROR(ReadFully(file, 0, bytes));
  uint64_t length = std::bit_cast<uint64_t>(bytes);
  if (length > kMaxHeaderBytes)
    return InvalidArgument(
        fmt::format("not a safetensors file: its first 8 bytes, the length of the header, say {}; "
                    "the limit is {}",
                    length, kMaxHeaderBytes));
  if (length > file_size_bytes - kLengthBytes)
    return DataLoss(
        fmt::format("cut off in the header, or not a safetensors file: the header "
                    "should end at {}, the file has {} bytes",
                    length + kLengthBytes, file_size_bytes));
  return length;
}

template <typename Convert>
Status ReadHalves(const aio::File& file, uint64_t offset_bytes, std::span<float> out,
                  Convert convert) {
  std::array<uint16_t, 16384> piece;
  while (!out.empty()) {
    std::span halves = std::span(piece).first(std::min(piece.size(), out.size()));
    STRATA_RETURN_IF_ERROR(ReadFully(file, offset_bytes, std::as_writable_bytes(halves)));
    std::transform(halves.begin(), halves.end(), out.begin(), convert);
    offset_bytes += halves.size_bytes();
    out = out.subspan(halves.size());
  }
  return OkStatus();
}

}  // namespace

std::string_view SafetensorsName(DType dtype) {
  return dtype == DType::kF32 ? "F32" : dtype == DType::kBf16 ? "BF16" : "F16";
}

std::optional<DType> DTypeOfSafetensorsName(std::string_view name) {
  for (DType dtype : {DType::kF32, DType::kBf16, DType::kF16}) {
    if (name == SafetensorsName(dtype)) return dtype;
  }
  return std::nullopt;
}

std::string MakeSafetensorsHeader(std::span<const SafetensorsEntry> entries,
                                  const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header = {{"__metadata__", {{"format", "pt"}}}};
  for (const auto& [key, value] : metadata) header["__metadata__"][key] = value;
  for (const SafetensorsEntry& entry : entries)
    header[entry.name] = {
        {"dtype", entry.dtype},
        {"shape", entry.shape},
        {"data_offsets", {entry.offset_bytes, entry.offset_bytes + entry.size_bytes}}};
  std::string text = header.dump();
  text.resize((text.size() + kAlignmentBytes - 1) / kAlignmentBytes * kAlignmentBytes, ' ');
  std::string length(kLengthBytes, '\0');
  uint64_t length_bytes = text.size();
  std::memcpy(length.data(), &length_bytes, kLengthBytes);
  return length + text;
}

Result<std::vector<SafetensorsEntry>> ParseSafetensorsHeader(std::string_view text,
                                                             uint64_t file_size_bytes,
                                                             std::string_view source) {
  STRATA_CHECK(text.size() + kLengthBytes <= file_size_bytes);
  STRATA_ASSIGN_OR_RETURN(json header, ParseStrictJson(text, fmt::format("{}: header", source)));
  if (!header.is_object())
    return InvalidArgument(fmt::format("{}: its header is not a JSON object", source));
  std::vector<SafetensorsEntry> entries;
  for (const auto& [name, value] : header.items()) {
    if (name == "__metadata__") continue;
    STRATA_ASSIGN_OR_RETURN(
        SafetensorsEntry entry,
        ParseEntry(name, value).With(fmt::format("{}: tensor '{}'", source, name)));
    entries.push_back(std::move(entry));
  }
  Status coverage = CheckCoverage(entries, kLengthBytes + text.size(), file_size_bytes);
  if (!coverage.ok()) return coverage.With(source);
  return entries;
}

Result<SafetensorsFile> SafetensorsFile::Open(const std::string& path) {
  STRATA_ASSIGN_OR_RETURN(aio::File file, aio::File::Open(path, {.direct = false}));
  STRATA_ASSIGN_OR_RETURN(uint64_t file_size_bytes, file.SizeBytes());
  STRATA_ASSIGN_OR_RETURN(uint64_t header_bytes,
                          ReadHeaderLength(file, file_size_bytes).With(path));
  std::string header(header_bytes, '\0');
  STRATA_RETURN_IF_ERROR(ReadFully(file, kLengthBytes, std::as_writable_bytes(std::span(header))));
  STRATA_ASSIGN_OR_RETURN(std::vector<SafetensorsEntry> entries,
                          ParseSafetensorsHeader(header, file_size_bytes, path));
  return SafetensorsFile(std::move(file), kLengthBytes + header_bytes, std::move(entries));
}

Status SafetensorsFile::Read(const SafetensorsEntry& entry, uint64_t first,
                             std::span<float> out) const {
  std::optional<DType> dtype = DTypeOfSafetensorsName(entry.dtype);
  STRATA_CHECK(dtype.has_value());
  uint64_t num_elements = entry.size_bytes / SizeOf(*dtype);
  STRATA_CHECK(first <= num_elements && out.size() <= num_elements - first);
  uint64_t offset_bytes = data_offset_bytes_ + entry.offset_bytes + first * SizeOf(*dtype);
  switch (*dtype) {
    case DType::kF32:
      return ReadFully(file_, offset_bytes, std::as_writable_bytes(out));
    case DType::kBf16:
      return ReadHalves(file_, offset_bytes, out,
                        [](uint16_t bits) { return FromBf16(Bf16(bits)); });
    case DType::kF16:
      return ReadHalves(file_, offset_bytes, out, FromF16);
  }
  return Internal("a dtype that DType does not have");
}

}  // namespace strata::engine
