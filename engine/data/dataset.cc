#include "engine/data/dataset.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "aio/base/log.h"
#include "aio/base/units.h"
#include "engine/data/internal/corpus.h"
#include "engine/data/internal/documents.h"
#include "engine/data/internal/permutation.h"
#include "engine/data/internal/token_file.h"

namespace strata::engine {
namespace {

using namespace data_internal;

class MappedDataset final : public Dataset {
 public:
  MappedDataset(TokenFile file, uint64_t seq_len, uint64_t seed)
      : file_(std::move(file)), seq_len_(seq_len), seed_(seed) {}

  uint64_t num_tokens() const override { return file_.tokens().size(); }
  uint64_t num_samples() const override {
    return num_tokens() == 0 ? 0 : (num_tokens() - 1) / seq_len_;
  }
  uint64_t fingerprint() const override { return file_.hash(); }

  void Sample(uint64_t index, std::span<int32_t> inputs,
              std::span<int32_t> targets) const override {
    STRATA_CHECK(inputs.size() == seq_len_ && targets.size() == seq_len_);
    uint64_t epoch = index / num_samples();
    uint64_t sample = Permute(index % num_samples(), num_samples(), EpochKey(seed_, epoch));
    auto tokens = file_.tokens().subspan(sample * seq_len_, seq_len_ + 1);
    std::ranges::copy(tokens.first(seq_len_), inputs.begin());
    std::ranges::copy(tokens.last(seq_len_), targets.begin());
  }

 private:
  TokenFile file_;
  uint64_t seq_len_;
  uint64_t seed_;
};

// Covers everything that the tokens depend on.
uint64_t CacheKey(const Corpus& corpus, const Tokenizer& tokenizer) {
  Hasher hasher;
  hasher.Add(tokenizer.name());
  for (const CorpusFile& file : corpus.files) {
    hasher.Add(file.name);
    hasher.Add(file.size_bytes);
    hasher.Add(file.content_hash);
  }
  return hasher.Digest();
}

Status WriteTokens(const Corpus& corpus, const Tokenizer& tokenizer, const std::string& path,
                   uint64_t key, const DatasetOptions& options) {
  STRATA_ASSIGN_OR_RETURN(TokenFileWriter writer, TokenFileWriter::Create(path, key));
  std::vector<uint16_t> tokens;
  DocumentHandler handler;
  handler.on_text = [&](std::string_view text) {
    tokens.clear();
    tokenizer.Encode(text, tokens);
    return writer.Append(tokens);
  };
  handler.on_end_of_document = [&] {
    uint16_t end = static_cast<uint16_t>(tokenizer.end_of_document());
    return writer.Append({&end, 1});
  };
  handler.on_read = [&, done_bytes = uint64_t{0}](uint64_t size_bytes) mutable {
    done_bytes += size_bytes;
    if (options.on_progress) options.on_progress(done_bytes, corpus.TotalBytes());
  };
  for (const CorpusFile& file : corpus.files) STRATA_RETURN_IF_ERROR(ReadDocuments(file, handler));
  return std::move(writer).Finish();
}

void LogCorpus(const Corpus& corpus, const std::string& path) {
  Log(Severity::kInfo, "data", "{}: {} files, {}; skipped other={} binary={} hidden={} excluded={}",
      path, corpus.files.size(), FormatBytes(corpus.TotalBytes()), corpus.num_other,
      corpus.num_binary, corpus.num_hidden, corpus.num_excluded);
}

// The cached tokens, or else new ones.
Result<TokenFile> OpenTokens(const Corpus& corpus, const Tokenizer& tokenizer,
                             const DatasetOptions& options) {
  RemoveAbandonedTokenFiles(options.cache_dir);
  uint64_t key = CacheKey(corpus, tokenizer);
  std::string path =
      (std::filesystem::path(options.cache_dir) / fmt::format("{:016x}.tokens", key)).string();
  Result<TokenFile> cached = TokenFile::Open(path, key);
  Code code = cached.status().code();
  if (code == Code::kDataLoss)
    Log(Severity::kWarning, "data", "{}; tokenising again", cached.status().message());
  if (code != Code::kDataLoss && code != Code::kNotFound) return cached;
  STRATA_RETURN_IF_ERROR(WriteTokens(corpus, tokenizer, path, key, options));
  return TokenFile::Open(path, key);
}

}  // namespace

Result<std::unique_ptr<Dataset>> Dataset::Open(const DatasetOptions& options,
                                               const Tokenizer& tokenizer) {
  STRATA_CHECK(options.seq_len > 0);
  STRATA_CHECK(tokenizer.vocab_size() <= 65536);  // tokens are stored as 16 bits
  std::vector<std::string> exclude = options.exclude;
  exclude.push_back(options.cache_dir);
  STRATA_ASSIGN_OR_RETURN(Corpus corpus, ListCorpus(options.path, exclude));
  LogCorpus(corpus, options.path);
  STRATA_ASSIGN_OR_RETURN(TokenFile file, OpenTokens(corpus, tokenizer, options));
  auto dataset = std::make_unique<MappedDataset>(std::move(file), options.seq_len, options.seed);
  if (dataset->num_samples() == 0)
    return InvalidArgument(fmt::format(
        "data {} has {} tokens, too few for one sample of seq_len {} + 1: give more text, or lower "
        "[data] seq_len",
        options.path, dataset->num_tokens(), options.seq_len));
  return std::unique_ptr<Dataset>(std::move(dataset));
}

}  // namespace strata::engine
