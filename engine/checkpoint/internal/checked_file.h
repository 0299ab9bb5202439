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

  // kDataLoss when it is not as it was. Before anything else.
  Status ReadHeader();
  const std::vector<SafetensorsEntry>& entries() const { return entries_; }

  size_t num_pieces() const { return pieces_.size(); }
  // The one that has this byte of a tensor, `entry` of entries().
  size_t PieceWith(size_t entry, uint64_t offset_bytes) const {
    return first_piece_[entry] + offset_bytes / TensorManifest::kPieceBytes;
  }
  // All of a piece. kDataLoss, naming tensor and offset, when it is not as it was.
  Status Load(size_t piece, std::vector<std::byte>& into) const;

 private:
  CheckedFile(aio::File file, TensorManifest::File about)
      : file_(std::move(file)), about_(std::move(about)) {}

  // Of one tensor.
  struct Piece {
    size_t entry = 0;
    uint64_t offset_bytes = 0;
    uint64_t size_bytes = 0;
  };
  aio::File file_;
  TensorManifest::File about_;
  std::vector<SafetensorsEntry> entries_;
  std::vector<Piece> pieces_;
  std::vector<size_t> first_piece_;  // by entry
};

}  // namespace strata::engine
