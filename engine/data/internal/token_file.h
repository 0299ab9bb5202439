// The token file: a header of one page, then the tokens as little-endian 16-bit numbers.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "aio/base/status.h"
#include "aio/file.h"
#include "engine/data/internal/hasher.h"

namespace strata::engine::data_internal {

// Writes beside `path` and puts the file there when it is whole. Dropped before, it leaves nothing.
// The temporary file is locked (flock) for as long as its writer lives.
class TokenFileWriter {
 public:
  // Makes the directory if need be. `key` says what the tokens were made of.
  static Result<TokenFileWriter> Create(const std::string& path, uint64_t key);
  TokenFileWriter(TokenFileWriter&&) = default;

  Status Append(std::span<const uint16_t> tokens);
  // fsync, then rename.
  Status Finish() &&;

 private:
  struct Remove {
    void operator()(std::string* temporary) const;
  };

  TokenFileWriter(aio::File file, std::string path, uint64_t key);

  aio::File file_;
  std::unique_ptr<std::string, Remove> temporary_;
  std::string path_;
  uint64_t key_;
  uint64_t num_tokens_ = 0;
  Hasher hasher_;
};

struct Unmap {
  size_t size_bytes = 0;
  void operator()(void* address) const;
};

// Removes what writers left in `directory` that were killed: their temporary files, which nobody
// locks any more. What is being written, by whichever process, stays. Best effort.
void RemoveAbandonedTokenFiles(const std::string& directory);

// Mapped, read-only. Thread-safe.
class TokenFile {
 public:
  // Verifies everything: kNotFound when there is no file, kDataLoss when it is not the file that
  // was written for `key`.
  static Result<TokenFile> Open(const std::string& path, uint64_t key);

  std::span<const uint16_t> tokens() const { return tokens_; }
  uint64_t hash() const { return hash_; }

 private:
  TokenFile() = default;

  std::unique_ptr<void, Unmap> mapping_;
  std::span<const uint16_t> tokens_;
  uint64_t hash_ = 0;
};

}  // namespace strata::engine::data_internal
