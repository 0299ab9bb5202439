#include "tiering/internal/manifest.h"

#include <fmt/format.h>

#include <bit>
#include <cstring>

#include "tiering/internal/checksum.h"

namespace strata::tiering {
namespace {

static_assert(std::endian::native == std::endian::little, "the manifest is little-endian");

constexpr std::string_view kMagic = "STRATAMF";
constexpr uint32_t kFormatVersion = 1;
constexpr size_t kHeaderBytes = kMagic.size() + sizeof(uint32_t) + sizeof(uint64_t);
constexpr size_t kChecksumBytes = sizeof(uint64_t);

template <typename T>
void Put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

void PutText(std::string& out, std::string_view text) {
  Put<uint64_t>(out, text.size());
  out.append(text);
}

// Takes values off the front of a text; once it is too short everything is zero and ok() false.
class Reader {
 public:
  explicit Reader(std::string_view text) : rest_(text) {}

  bool ok() const { return ok_; }
  bool at_end() const { return rest_.empty(); }

  template <typename T>
  T Take() {
    T value{};
    std::string_view bytes = TakeBytes(sizeof(T));
    if (ok_) std::memcpy(&value, bytes.data(), sizeof(T));
    return value;
  }

  std::string TakeText() { return std::string(TakeBytes(Take<uint64_t>())); }

  // The number of elements that follow; more than there are bytes cannot be.
  uint64_t TakeCount() {
    auto count = Take<uint64_t>();
    if (count > rest_.size()) ok_ = false;
    return ok_ ? count : 0;
  }

 private:
  std::string_view TakeBytes(uint64_t length) {
    if (length > rest_.size()) ok_ = false;
    if (!ok_) return {};
    std::string_view bytes = rest_.substr(0, length);
    rest_.remove_prefix(length);
    return bytes;
  }

  std::string_view rest_;
  bool ok_ = true;
};

void PutSegment(std::string& out, const ExtentSegment& segment) {
  Put(out, segment.directory);
  Put(out, segment.extent_bytes);
  Put(out, segment.offset_bytes);
  Put(out, segment.num_extents);
}

ExtentSegment TakeSegment(Reader& reader) {
  ExtentSegment segment;
  segment.directory = reader.Take<uint32_t>();
  segment.extent_bytes = reader.Take<uint64_t>();
  segment.offset_bytes = reader.Take<uint64_t>();
  segment.num_extents = reader.Take<uint64_t>();
  return segment;
}

void PutBlock(std::string& out, const BlockRecord& block) {
  PutText(out, block.name);
  Put(out, block.size_bytes);
  Put<uint8_t>(out, block.written);
  Put(out, block.directory);
  Put(out, block.offset_bytes);
  Put(out, block.checksum);
}

BlockRecord TakeBlock(Reader& reader) {
  BlockRecord block;
  block.name = reader.TakeText();
  block.size_bytes = reader.Take<uint64_t>();
  block.written = reader.Take<uint8_t>() != 0;
  block.directory = reader.Take<uint32_t>();
  block.offset_bytes = reader.Take<uint64_t>();
  block.checksum = reader.Take<uint64_t>();
  return block;
}

std::string EncodePayload(const Manifest& manifest) {
  std::string out;
  Put(out, manifest.generation);
  Put(out, manifest.rank);
  Put<uint8_t>(out, manifest.pinned);
  PutText(out, manifest.metadata);
  Put(out, manifest.num_directories);
  Put<uint64_t>(out, manifest.segments.size());
  for (const ExtentSegment& segment : manifest.segments) PutSegment(out, segment);
  Put<uint64_t>(out, manifest.blocks.size());
  for (const BlockRecord& block : manifest.blocks) PutBlock(out, block);
  return out;
}

Result<Manifest> DecodePayload(std::string_view payload) {
  Reader reader(payload);
  Manifest manifest;
  manifest.generation = reader.Take<uint64_t>();
  manifest.rank = reader.Take<uint32_t>();
  manifest.pinned = reader.Take<uint8_t>() != 0;
  manifest.metadata = reader.TakeText();
  manifest.num_directories = reader.Take<uint32_t>();
  for (uint64_t left = reader.TakeCount(); left > 0 && reader.ok(); --left)
    manifest.segments.push_back(TakeSegment(reader));
  for (uint64_t left = reader.TakeCount(); left > 0 && reader.ok(); --left)
    manifest.blocks.push_back(TakeBlock(reader));
  if (!reader.ok() || !reader.at_end()) return DataLoss("its lists do not fit its length");
  return manifest;
}

uint64_t ChecksumOf(std::string_view text) { return Checksum(std::as_bytes(std::span(text))); }

}  // namespace

std::string EncodeManifest(const Manifest& manifest) {
  std::string payload = EncodePayload(manifest);
  std::string out(kMagic);
  Put(out, kFormatVersion);
  Put<uint64_t>(out, payload.size());
  out += payload;
  Put(out, ChecksumOf(out));
  return out;
}

Result<Manifest> DecodeManifest(std::string_view bytes) {
  if (bytes.size() < kHeaderBytes + kChecksumBytes)
    return DataLoss(fmt::format("only {} bytes are there", bytes.size()));
  if (!bytes.starts_with(kMagic)) return DataLoss("it does not start as a manifest");
  std::string_view checked = bytes.substr(0, bytes.size() - kChecksumBytes);
  auto checksum = Reader(bytes.substr(checked.size())).Take<uint64_t>();
  if (ChecksumOf(checked) != checksum) return DataLoss("its checksum does not fit its bytes");
  Reader header(checked.substr(kMagic.size()));
  auto version = header.Take<uint32_t>();
  if (version != kFormatVersion) {
    return Unimplemented(
        fmt::format("its format is {}, this program knows {}: use the program "
                    "that wrote it",
                    version, kFormatVersion));
  }
  if (header.Take<uint64_t>() != checked.size() - kHeaderBytes)
    return DataLoss("it is not as long as it says");
  return DecodePayload(checked.substr(kHeaderBytes));
}

}  // namespace strata::tiering
