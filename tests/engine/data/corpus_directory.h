// A directory of text to open datasets on, and a place for their token files.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "aio/base/log.h"
#include "engine/data/dataset.h"

namespace strata::engine {

class CorpusDirectory : public testing::Test {
 protected:
  void SetUp() override {
    SetLogThreshold(Severity::kError);
    std::string name = testing::TempDir() + "strata_data_XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    root_ = name;
    std::filesystem::create_directory(root_ / "text");
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  // Paths are relative to the corpus.
  void Write(const std::string& path, std::string_view content) {
    std::filesystem::create_directories((root_ / "text" / path).parent_path());
    std::ofstream(root_ / "text" / path, std::ios::binary) << content;
  }

  DatasetOptions Options(uint64_t seq_len = 4) const {
    DatasetOptions options;
    options.path = (root_ / "text").string();
    options.cache_dir = (root_ / "cache").string();
    options.seq_len = seq_len;
    options.seed = 1;
    return options;
  }

  Result<std::unique_ptr<Dataset>> Open(const DatasetOptions& options) const {
    return Dataset::Open(options, *tokenizer_);
  }
  Status ErrorOf(const DatasetOptions& options) const { return Open(options).status(); }
  std::unique_ptr<Dataset> OpenOrDie(const DatasetOptions& options) const {
    Result<std::unique_ptr<Dataset>> dataset = Open(options);
    EXPECT_TRUE(dataset.ok()) << dataset.status().message();
    STRATA_CHECK(dataset.ok());
    return std::move(*dataset);
  }

  // The corpus as it was read, ends of documents as '|'.
  std::string ReadText() const {
    OpenOrDie(Options(1));
    std::ifstream file(TokenFilePath(), std::ios::binary);
    file.seekg(4096);  // behind the header
    std::string text;
    for (uint16_t token; file.read(reinterpret_cast<char*>(&token), sizeof(token));)
      text += token < 256 ? static_cast<char>(token) : '|';
    return text;
  }

  std::filesystem::path TokenFilePath() const {
    for (const auto& entry : std::filesystem::directory_iterator(root_ / "cache"))
      return entry.path();
    return {};
  }

  std::filesystem::path root_;
  std::unique_ptr<Tokenizer> tokenizer_ = MakeByteTokenizer();
};

struct TokenSample {
  std::vector<int32_t> inputs;
  std::vector<int32_t> targets;
  friend bool operator==(const TokenSample&, const TokenSample&) = default;
};

inline TokenSample SampleOf(const Dataset& dataset, uint64_t seq_len, uint64_t index) {
  TokenSample sample = {std::vector<int32_t>(seq_len), std::vector<int32_t>(seq_len)};
  dataset.Sample(index, sample.inputs, sample.targets);
  return sample;
}

}  // namespace strata::engine
