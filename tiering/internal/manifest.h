// The file that makes a generation: which extents hold its blocks, and their checksums.
//
// Little-endian: magic, format version, payload length, payload, XXH3-64 of all bytes before it.
// Strings and lists are a length and their elements.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "aio/base/status.h"

namespace strata::tiering {

// A run of equal extents in one directory's file.
struct ExtentSegment {
  uint32_t directory = 0;
  uint64_t extent_bytes = 0;
  uint64_t offset_bytes = 0;
  uint64_t num_extents = 0;
};

struct BlockRecord {
  std::string name;
  uint64_t size_bytes = 0;
  bool written = false;  // the rest only counts if it is
  uint32_t directory = 0;
  uint64_t offset_bytes = 0;
  uint64_t checksum = 0;
};

struct Manifest {
  uint64_t generation = 0;
  uint32_t rank = 0;
  bool pinned = false;
  std::string metadata;
  uint32_t num_directories = 0;
  std::vector<ExtentSegment> segments;
  std::vector<BlockRecord> blocks;
};

std::string EncodeManifest(const Manifest& manifest);

// Any byte that is not as written is kDataLoss; a format of a later program is kUnimplemented. No
// length in it is trusted.
Result<Manifest> DecodeManifest(std::string_view bytes);

}  // namespace strata::tiering
