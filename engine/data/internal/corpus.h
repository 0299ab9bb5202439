// Which files are the data.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "aio/base/status.h"

namespace strata::engine::data_internal {

enum class FileFormat { kText, kJsonLines };

struct CorpusFile {
  std::string path;
  std::string name;  // relative to the corpus, with '/'
  FileFormat format = FileFormat::kText;
  uint64_t size_bytes = 0;
  uint64_t content_hash = 0;
};

struct Corpus {
  std::vector<CorpusFile> files;  // by name
  uint64_t num_hidden = 0;        // files and directories that are not entered
  uint64_t num_excluded = 0;      // directories: build*, runs, a run's, and those the caller named
  uint64_t num_other = 0;         // files of an unknown kind
  uint64_t num_binary = 0;        // files with a NUL near their start

  uint64_t TotalBytes() const;
};

// Reads all content once, to hash it. kNotFound when there is no text at `path`.
Result<Corpus> ListCorpus(const std::string& path, const std::vector<std::string>& exclude);

}  // namespace strata::engine::data_internal
