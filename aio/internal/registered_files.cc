#include "aio/internal/registered_files.h"

#include "aio/base/check.h"

namespace strata::aio {

std::unique_ptr<RegisteredFiles> RegisteredFiles::Create(io_uring& ring) {
  if (io_uring_register_files_sparse(&ring, kCapacity) != 0) return nullptr;
  return std::unique_ptr<RegisteredFiles>(new RegisteredFiles(ring));
}

std::optional<int> RegisteredFiles::IndexOf(const File& file, int fd) {
  for (size_t i = 0; i < entries_.size(); ++i) {
    if (entries_[i].path.get() == &file.path() && entries_[i].fd == fd) return static_cast<int>(i);
  }
  return entries_.size() < kCapacity ? Add(file, fd) : std::nullopt;
}

std::optional<int> RegisteredFiles::Add(const File& file, int fd) {
  int index = static_cast<int>(entries_.size());
  if (io_uring_register_files_update(&ring_, static_cast<unsigned>(index), &fd, 1) != 1)
    return std::nullopt;
  entries_.push_back({file.shared_path(), fd});
  return index;
}

void RegisteredFiles::LetGo() {
  if (entries_.empty()) return;
  const std::vector<int> none(entries_.size(), -1);
  int updated =
      io_uring_register_files_update(&ring_, 0, none.data(), static_cast<unsigned>(none.size()));
  STRATA_CHECK(updated == static_cast<int>(none.size()));
  entries_.clear();
}

}  // namespace strata::aio
