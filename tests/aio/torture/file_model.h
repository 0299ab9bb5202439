// A file and the bytes that it must hold.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "aio/file.h"
#include "aio/io_engine.h"

namespace strata::aio {

// Threads reserve pages, for one writer or any number of readers, and then deal with what is in
// them as if they were alone. Thread-safe like that.
class FileModel {
 public:
  static constexpr uint64_t kPageBytes = 4096;

  // A new file full of zeros.
  FileModel(const std::string& path, uint64_t size_bytes, bool direct);

  const File& file() const { return file_; }
  uint64_t size_bytes() const { return bytes_.size(); }
  void Reopen();  // nobody else uses it meanwhile

  // False when somebody is in the way. What reaches past the end ends there.
  bool Reserve(IoDirection direction, uint64_t offset_bytes, uint64_t length_bytes);
  void Release(IoDirection direction, uint64_t offset_bytes, uint64_t length_bytes);

  // All below: of pages that the caller has reserved.
  std::span<const std::byte> Content(uint64_t offset_bytes, uint64_t length_bytes) const {
    return std::span(bytes_).subspan(offset_bytes, length_bytes);
  }
  void Written(uint64_t offset_bytes, std::span<const std::byte> from);
  // After a write that was not reported as done, or was and is known for a lie: looks what the file
  // holds, which must be the old or the new, sector by sector, and takes it for what it must hold
  // from now on.
  Status Settle(uint64_t offset_bytes, std::span<const std::byte> from);

  // That the whole file is as it must be. Nobody else uses it meanwhile.
  Status CheckAll() const;

 private:
  struct Page {
    int num_readers = 0;
    bool has_writer = false;
  };
  std::span<Page> Pages(uint64_t offset_bytes, uint64_t length_bytes);
  Result<std::vector<std::byte>> ReadBack(uint64_t offset_bytes, uint64_t length_bytes) const;

  const std::string path_;
  const bool direct_;
  File file_;
  std::vector<std::byte> bytes_;
  std::mutex mutex_;
  std::vector<Page> pages_;
};

}  // namespace strata::aio
