// What the tests of aio need again and again.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <random>
#include <span>
#include <string>
#include <utility>

#include "aio/base/status.h"

namespace strata {

// The value, or the end of the program with the reason on stderr.
template <typename T>
T OrDie(Result<T> result) {
  if (!result.ok()) std::fprintf(stderr, "%s\n", result.status().ToString().c_str());
  STRATA_CHECK(result.ok());
  return std::move(result).value();
}

// A directory of its own below the tests' temporary directory, gone at the end.
class ScratchDirectory {
 public:
  ScratchDirectory() : path_(testing::TempDir() + "strata-aio-XXXXXX") {
    STRATA_CHECK(mkdtemp(path_.data()) != nullptr);
  }
  ScratchDirectory(const ScratchDirectory&) = delete;
  ~ScratchDirectory() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }

  const std::string& path() const { return path_; }
  std::string File(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

inline void FillWithRandomBytes(std::span<std::byte> bytes, uint64_t seed) {
  std::mt19937_64 random(seed);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
}

}  // namespace strata
