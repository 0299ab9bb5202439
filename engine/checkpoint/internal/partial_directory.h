// A directory that appears whole or not at all.
#pragma once

#include <string>
#include <utility>

#include "aio/base/status.h"

namespace strata::engine {

// Made beside its final place; what is not published is removed. A killed process leaves it under
// a name that says what it is.
class PartialDirectory {
 public:
  // Refuses a final place that exists and is not an empty directory.
  static Result<PartialDirectory> Create(const std::string& final_path);

  PartialDirectory(PartialDirectory&& other) noexcept
      : final_path_(std::move(other.final_path_)), path_(std::exchange(other.path_, "")) {}
  PartialDirectory& operator=(PartialDirectory&&) = delete;
  ~PartialDirectory();

  // Where to put files; fsync each.
  const std::string& path() const { return path_; }

  // Makes the names durable and moves the directory to its final place.
  Status Publish() &&;

 private:
  PartialDirectory(std::string final_path, std::string path)
      : final_path_(std::move(final_path)), path_(std::move(path)) {}

  std::string final_path_;
  std::string path_;  // empty: published, or moved from
};

// Makes what was created, renamed or removed in it durable.
Status SyncDirectory(const std::string& path);

}  // namespace strata::engine
