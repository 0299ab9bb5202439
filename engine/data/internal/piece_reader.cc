#include "engine/data/internal/piece_reader.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>

namespace strata::engine::data_internal {

PieceReader::PieceReader(aio::File file)
    : file_(std::move(file)), buffer_(std::make_unique_for_overwrite<char[]>(kPieceBytes)) {}

Result<PieceReader> PieceReader::Open(const std::string& path) {
  STRATA_ASSIGN_OR_RETURN(aio::File file, aio::File::Open(path, {.direct = false}));
  return PieceReader(std::move(file));
}

Result<std::string_view> PieceReader::Next() {
  ssize_t length = 0;
  do {
    length = read(file_.fd(), buffer_.get(), kPieceBytes);
  } while (length < 0 && errno == EINTR);
  if (length < 0)
    return ErrnoStatus(errno, fmt::format("read {} offset_bytes={}", file_.path(), size_bytes_));
  std::string_view piece(buffer_.get(), static_cast<size_t>(length));
  hasher_.Add(piece.data(), piece.size());
  size_bytes_ += piece.size();
  return piece;
}

}  // namespace strata::engine::data_internal
