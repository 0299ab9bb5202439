// A directory of a test's own, gone with everything in it when the test ends.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <string>

#include "aio/base/check.h"

namespace strata::tiering {

class TempDir {
 public:
  explicit TempDir(const std::string& parent = testing::TempDir())
      : path_(parent + "/strata-test-XXXXXX") {
    STRATA_CHECK(mkdtemp(path_.data()) != nullptr);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  ~TempDir() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace strata::tiering
