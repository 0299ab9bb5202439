// What a benchmark writes: data that no drive can compress or deduplicate, and of which every
// sector of 4 KiB says where and when it belongs, so that a wrong one can be told by its kind.
//
// A sector is a tag of 40 bytes and a payload. The tag holds the sector's identity and the key that
// the payload was made with, whitened: these bytes look random, too.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

namespace strata::aio {

inline constexpr size_t kPatternSectorBytes = 4096;

// Which sector it is, and which write of it.
struct SectorId {
  uint64_t seed = 0;  // of the whole target: what an earlier run left is not mistaken for ours
  uint32_t file = 0;  // index of the file in its target
  uint32_t generation = 0;  // 0: the first write
  uint64_t sector = 0;      // index in the file

  uint64_t offset_bytes() const { return sector * kPatternSectorBytes; }
};

// The whole sectors that `bytes` has are those from `first` on, in order, each with a payload of
// its own. Several GB/s per core.
void FillPattern(std::span<std::byte> bytes, SectorId first);

// Turns sectors that were filled before into those from `first` on by writing only the tags: the
// sectors stay unique, their payloads repeat. Ten times as fast.
void StampPattern(std::span<std::byte> bytes, SectorId first);

enum class SectorFaultKind {
  kZeros,         // never written, or a hole
  kGarbage,       // nothing that a benchmark wrote
  kForeign,       // what another run wrote: ours never arrived
  kMisdirected,   // what was written to another place
  kOld,           // what was there before the last write: that never arrived
  kUnknownWrite,  // a newer generation than anybody wrote
  kTorn,          // ours up to some byte, something else from there on
  kCorrupt,       // ours, but for some bytes
};

struct SectorFault {
  SectorFaultKind kind = SectorFaultKind::kGarbage;
  SectorId expected;
  SectorId found;          // what its tag says, where it has one
  size_t at_byte = 0;      // torn, corrupt: the first byte of the sector that is wrong
  size_t wrong_words = 0;  // corrupt: of 8 bytes each

  // "it holds what was written to offset_bytes=8192 of the same file".
  std::string ToString() const;
};

// The first sector of `bytes` that is not what was written to it; `first` is where they come from.
std::optional<SectorFault> CheckPattern(std::span<const std::byte> bytes, SectorId first);

}  // namespace strata::aio
