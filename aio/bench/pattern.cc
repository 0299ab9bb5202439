#include "aio/bench/pattern.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstring>

#include "aio/base/check.h"

namespace strata::aio {
namespace {

constexpr uint64_t kGolden = 0x9e3779b97f4a7c15;
constexpr uint64_t kMagic = 0x5354524154414249;
constexpr size_t kWordBytes = sizeof(uint64_t);
constexpr size_t kSectorWords = kPatternSectorBytes / kWordBytes;

// The finaliser of splitmix64.
constexpr uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

constexpr std::array<uint64_t, kSectorWords> MakeNoise() {
  std::array<uint64_t, kSectorWords> noise = {};
  for (size_t i = 0; i < kSectorWords; ++i) noise[i] = Mix((i + 1) * kGolden);
  return noise;
}

// A sector's payload is this, each word xored with the sector's key. No compressor sees the
// relation between sectors, and a loop that makes or compares it runs at the speed of memory: a
// generator with 64-bit products, of which SSE2 has none, is five times slower.
constexpr std::array<uint64_t, kSectorWords> kNoise = MakeNoise();

inline uint64_t Word(uint64_t key, size_t index) { return key ^ kNoise[index]; }

// All but the last whitened by the first.
struct Tag {
  uint64_t nonce = 0;
  uint64_t check = 0;  // made of kMagic and the seed
  uint64_t file_and_generation = 0;
  uint64_t sector = 0;
  uint64_t payload_key = 0;
};
constexpr size_t kIdentityBytes = offsetof(Tag, payload_key);
constexpr size_t kTagWords = sizeof(Tag) / kWordBytes;

uint64_t CheckOf(uint64_t seed) { return Mix(seed ^ kMagic); }

uint64_t FileAndGeneration(const SectorId& id) { return (uint64_t{id.file} << 32) | id.generation; }

// Different for every write of every sector.
uint64_t NonceOf(const SectorId& id) {
  return Mix((id.seed ^ (FileAndGeneration(id) * 0xd6e8feb86659fd93)) + id.sector * kGolden);
}

Tag Whitened(Tag tag) {
  tag.check ^= std::rotl(tag.nonce, 13);
  tag.file_and_generation ^= std::rotl(tag.nonce, 29);
  tag.sector ^= std::rotl(tag.nonce, 47);
  return tag;
}

Tag TagOf(const SectorId& id, uint64_t check) {
  uint64_t nonce = NonceOf(id);
  return Whitened({.nonce = nonce,
                   .check = check,
                   .file_and_generation = FileAndGeneration(id),
                   .sector = id.sector,
                   .payload_key = Mix(nonce)});
}

Tag ReadTag(std::span<const std::byte> sector) {
  Tag tag;
  std::memcpy(&tag, sector.data(), sizeof(tag));
  return Whitened(tag);
}

uint64_t WordAt(std::span<const std::byte> sector, size_t index) {
  uint64_t word;
  std::memcpy(&word, sector.data() + index * kWordBytes, kWordBytes);
  return word;
}

bool IsZero(std::span<const std::byte> sector) {
  return std::all_of(sector.begin(), sector.end(), [](std::byte b) { return b == std::byte{0}; });
}

// The loop that every byte of a verified read goes through: no exits, so that it vectorises.
bool PayloadIsIntact(std::span<const std::byte> sector, uint64_t key) {
  uint64_t difference = 0;
  for (size_t i = kTagWords; i < kSectorWords; ++i) difference |= WordAt(sector, i) ^ Word(key, i);
  return difference == 0;
}

size_t FirstWrongByte(uint64_t found, uint64_t expected) {
  size_t byte = 0;
  while (((found ^ expected) >> (8 * byte) & 0xff) == 0) ++byte;
  return byte;
}

// Torn when nothing is right from the first wrong word on, and that is more than the last word.
void DescribePayload(std::span<const std::byte> sector, uint64_t key, SectorFault& fault) {
  size_t first = 0;
  for (size_t i = kTagWords; i < kSectorWords; ++i) {
    if (WordAt(sector, i) == Word(key, i)) continue;
    if (fault.wrong_words++ > 0) continue;
    first = i;
    fault.at_byte = i * kWordBytes + FirstWrongByte(WordAt(sector, i), Word(key, i));
  }
  bool is_torn = fault.wrong_words > 1 && fault.wrong_words == kSectorWords - first;
  fault.kind = is_torn ? SectorFaultKind::kTorn : SectorFaultKind::kCorrupt;
}

SectorId IdIn(const Tag& tag, uint64_t seed) {
  return {.seed = seed,
          .file = static_cast<uint32_t>(tag.file_and_generation >> 32),
          .generation = static_cast<uint32_t>(tag.file_and_generation),
          .sector = tag.sector};
}

// Another run's tag has a seed that nobody knows: only its payload, made with the key that the tag
// has, tells it from noise.
SectorFault FaultWithoutOurTag(std::span<const std::byte> sector, const Tag& tag,
                               SectorFault fault) {
  if (IsZero(sector)) {
    fault.kind = SectorFaultKind::kZeros;
  } else if (PayloadIsIntact(sector, tag.payload_key)) {
    fault.kind = SectorFaultKind::kForeign;
  } else {
    fault.kind = SectorFaultKind::kGarbage;
  }
  return fault;
}

bool IsSame(const SectorId& a, const SectorId& b) {
  return a.file == b.file && a.sector == b.sector && a.generation == b.generation;
}

SectorFaultKind WrongIdentity(const SectorId& found, const SectorId& expected) {
  if (found.file != expected.file || found.sector != expected.sector)
    return SectorFaultKind::kMisdirected;
  return found.generation < expected.generation ? SectorFaultKind::kOld
                                                : SectorFaultKind::kUnknownWrite;
}

std::optional<SectorFault> CheckSector(std::span<const std::byte> sector, const SectorId& id,
                                       uint64_t check) {
  Tag tag = ReadTag(sector);
  SectorFault fault = {.expected = id, .found = IdIn(tag, id.seed)};
  if (tag.check != check || tag.nonce != NonceOf(fault.found))
    return FaultWithoutOurTag(sector, tag, fault);
  if (!PayloadIsIntact(sector, tag.payload_key)) {
    DescribePayload(sector, tag.payload_key, fault);
    return fault;
  }
  if (IsSame(fault.found, id)) return std::nullopt;
  fault.kind = WrongIdentity(fault.found, id);
  return fault;
}

}  // namespace

void FillPattern(std::span<std::byte> bytes, SectorId id) {
  STRATA_CHECK(bytes.size() % kPatternSectorBytes == 0);
  const uint64_t check = CheckOf(id.seed);
  for (size_t at = 0; at < bytes.size(); at += kPatternSectorBytes, ++id.sector) {
    Tag tag = TagOf(id, check);
    std::byte* sector = bytes.data() + at;
    std::memcpy(sector, &tag, sizeof(tag));
    for (size_t i = kTagWords; i < kSectorWords; ++i) {
      uint64_t word = Word(tag.payload_key, i);
      std::memcpy(sector + i * kWordBytes, &word, kWordBytes);
    }
  }
}

// Only stores, and their lines are asked for ahead: no sector that is not in the cache is waited
// for. Half the time of the same loop without.
void StampPattern(std::span<std::byte> bytes, SectorId id) {
  STRATA_CHECK(bytes.size() % kPatternSectorBytes == 0);
  const uint64_t check = CheckOf(id.seed);
  for (size_t at = 0; at < bytes.size(); at += kPatternSectorBytes, ++id.sector) {
    constexpr size_t kAheadBytes = 16 * kPatternSectorBytes;
    if (at + kAheadBytes < bytes.size()) __builtin_prefetch(bytes.data() + at + kAheadBytes, 1);
    Tag tag = TagOf(id, check);
    std::memcpy(bytes.data() + at, &tag, kIdentityBytes);
  }
}

std::optional<SectorFault> CheckPattern(std::span<const std::byte> bytes, SectorId id) {
  STRATA_CHECK(bytes.size() % kPatternSectorBytes == 0);
  const uint64_t check = CheckOf(id.seed);
  for (size_t at = 0; at < bytes.size(); at += kPatternSectorBytes, ++id.sector) {
    auto fault = CheckSector(bytes.subspan(at, kPatternSectorBytes), id, check);
    if (fault) return fault;
  }
  return std::nullopt;
}

std::string SectorFault::ToString() const {
  switch (kind) {
    case SectorFaultKind::kZeros:
      return "it holds zeros: the write never arrived";
    case SectorFaultKind::kGarbage:
      return "it holds nothing that this benchmark wrote";
    case SectorFaultKind::kForeign:
      return "it holds what another run wrote: this run's write never arrived";
    case SectorFaultKind::kMisdirected:
      return fmt::format("it holds what was written to offset_bytes={} of {}", found.offset_bytes(),
                         found.file == expected.file ? std::string("the same file")
                                                     : fmt::format("file {}", found.file));
    case SectorFaultKind::kOld:
      return fmt::format("it holds write {} of it, not the last one, {}", found.generation,
                         expected.generation);
    case SectorFaultKind::kUnknownWrite:
      return fmt::format("it holds write {} of it, but the last one was {}", found.generation,
                         expected.generation);
    case SectorFaultKind::kTorn:
      return fmt::format("torn: from byte {} on it holds something else", at_byte);
    case SectorFaultKind::kCorrupt:
      return fmt::format("corrupt: {} of its 8-byte words are wrong, the first at byte {}",
                         wrong_words, at_byte);
  }
  return "it is wrong";
}

}  // namespace strata::aio
