// Files that an io_uring has been told of, so that it need not look them up for each transfer.
#pragma once

#include <liburing.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "aio/file.h"

namespace strata::aio {

// Belongs to the thread of its ring. The ring keeps a registered file open until it lets go: a file
// that is closed meanwhile still takes its space on the drive.
class RegisteredFiles {
 public:
  static constexpr size_t kCapacity = 64;

  // Null when the kernel has no such table (before 5.19). `ring` outlives this.
  static std::unique_ptr<RegisteredFiles> Create(io_uring& ring);

  // The index of the file's descriptor `fd`, registered now if it is not yet. None when the table
  // is full or the kernel refuses: the descriptor serves as well.
  std::optional<int> IndexOf(const File& file, int fd);

  // Of all. No transfer may be in flight.
  void LetGo();

 private:
  // A path that a file shares and nobody else has is its identity as long as the path lives, which
  // the table sees to. The number of a descriptor is used again after the file was closed.
  struct Entry {
    std::shared_ptr<const std::string> path;
    int fd;
  };

  explicit RegisteredFiles(io_uring& ring) : ring_(ring) {}
  std::optional<int> Add(const File& file, int fd);

  io_uring& ring_;
  std::vector<Entry> entries_;  // by index
};

}  // namespace strata::aio
