// A safetensors file whose bytes have known checksums, piece by piece.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "aio/base/status.h"
#include "aio/file.h"
#include "engine/checkpoint/safetensors.h"
#include "engine/checkpoint/tensor_directory.h"

namespace strata::engine {

class CheckedFile {
 public:
  // kDataLoss when it is not there or has another size. Its header is not read yet.
  static Result<CheckedFile> Open(const std::string& directory, const TensorManifest::File& about);

  // kDataLoss when it is not as it was.
  Status ReadHeader();
  // Once the header is read; empty before.
  const std::vector<SafetensorsEntry>& entries() const { return entries_; }

  size_t num_pieces() const { return about_.piece_hashes.size(); }
  // All of a piece of the data. kDataLoss, naming what it has of which tensors, when it is not as
  // it was.
  Status Load(uint64_t piece, std::vector<std::byte>& into) const;

 private:
  CheckedFile(aio::File file, TensorManifest::File about)
      : file_(std::move(file)), about_(std::move(about)) {}
  std::string TensorsIn(uint64_t begin, uint64_t end) const;

  aio::File file_;
  TensorManifest::File about_;
  std::vector<SafetensorsEntry> entries_;
};

}  // namespace strata::engine
