// Several files as one: a range of bytes laid over them in stripes.
//
// Stripes of one size are dealt out in turns. In a round each file gets as many as its share,
// spread over the round, so that a long transfer keeps all drives busy in proportion to their
// speed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "aio/file.h"
#include "aio/io_engine.h"

namespace strata::aio {

// Shares as whole stripes per round, in lowest terms: {1.0, 3.1} is {1, 3}. At most 64 a round and
// at least 1 per file. Weights are positive (CHECKed).
std::vector<uint32_t> StripesPerRound(std::span<const double> weights);

// The arithmetic alone. A value.
class StripeLayout {
 public:
  struct Extent {
    size_t file = 0;
    uint64_t offset_bytes = 0;  // in the file
    uint64_t length_bytes = 0;

    bool operator==(const Extent&) const = default;
  };

  // One positive count per file (CHECKed).
  StripeLayout(uint64_t stripe_bytes, std::vector<uint32_t> stripes_per_round);

  uint64_t stripe_bytes() const { return stripe_bytes_; }
  std::span<const uint32_t> stripes_per_round() const { return counts_; }

  // Where a range lies, in its order; what is adjacent in a file is one extent.
  std::vector<Extent> Map(uint64_t offset_bytes, uint64_t length_bytes) const;

  // How much of a file the range [0, size_bytes) takes: where its last byte lies, plus one.
  uint64_t FileBytes(size_t file, uint64_t size_bytes) const;
  // The longest range [0, x) that takes no more of a file than this.
  uint64_t SizeThatFits(size_t file, uint64_t file_bytes) const;

 private:
  struct Turn {
    size_t file;
    uint32_t nth;  // of that file's stripes in the round
  };
  Extent ExtentAt(uint64_t offset_bytes, uint64_t limit_bytes) const;

  uint64_t stripe_bytes_;
  std::vector<uint32_t> counts_;
  std::vector<Turn> round_;
};

// The files and their layout. Move-only. Outlives the ranges it gives out, also when moved.
class StripedFile {
 public:
  // As many files as the layout has (CHECKed).
  StripedFile(std::vector<File> files, StripeLayout layout);

  std::span<File> files() { return files_; }
  std::span<const File> files() const { return files_; }
  const StripeLayout& layout() const { return layout_; }

  // What StartReads and StartWrites take.
  std::vector<ReadRange> Reads(uint64_t offset_bytes, std::span<std::byte> into) const;
  std::vector<WriteRange> Writes(uint64_t offset_bytes, std::span<const std::byte> from) const;

 private:
  std::vector<File> files_;
  StripeLayout layout_;
};

}  // namespace strata::aio
