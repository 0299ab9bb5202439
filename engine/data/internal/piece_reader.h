// Reads a file from start to end, a MiB at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "aio/base/status.h"
#include "aio/file.h"
#include "engine/data/internal/hasher.h"

namespace strata::engine::data_internal {

class PieceReader {
 public:
  static constexpr size_t kPieceBytes = size_t{1} << 20;

  static Result<PieceReader> Open(const std::string& path);

  // The next piece, empty at the end of the file; valid until the next call.
  Result<std::string_view> Next();

  // Of what was read so far.
  uint64_t size_bytes() const { return size_bytes_; }
  uint64_t content_hash() const { return hasher_.Digest(); }

 private:
  explicit PieceReader(aio::File file);

  aio::File file_;
  std::unique_ptr<char[]> buffer_;
  uint64_t size_bytes_ = 0;
  Hasher hasher_;
};

}  // namespace strata::engine::data_internal
