// Text files -> a memory-mapped token file -> fixed-length samples in a shuffled order that is a
// pure function of (seed, step): resuming needs no state but the step.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "aio/base/status.h"
#include "engine/data/tokenizer.h"

namespace strata::engine {

struct DatasetOptions {
  std::string path;  // a file, or a directory read recursively in sorted order
  // Directories below `path` that are not data: the run's own output. cache_dir is one of itself.
  std::vector<std::string> exclude;
  std::string cache_dir;  // token files live here, named by their cache key
  uint64_t seq_len = 0;   // a sample is seq_len + 1 consecutive tokens: inputs and shifted targets
  uint64_t seed = 0;
  std::function<void(uint64_t done_bytes, uint64_t total_bytes)> on_progress;
};

// Thread-safe after Open.
class Dataset {
 public:
  // Tokenises what is not cached. The cache key covers tokenizer, file names, sizes and content;
  // the token file is written to a temporary name first, and made anew when it is damaged. Reads
  // .txt .md and source files as text, .jsonl by its "text" field (file:line of a bad record), any
  // other file only if `path` is that file; skips hidden and binary files, directories named build*
  // or runs, and run directories, those with a file run_id, saying how many. Errors: nothing
  // readable, invalid UTF-8 (file and byte offset), too few tokens for one sample. Memory stays at
  // a few MiB, whatever the size.
  static Result<std::unique_ptr<Dataset>> Open(const DatasetOptions& options,
                                               const Tokenizer& tokenizer);
  virtual ~Dataset() = default;

  virtual uint64_t num_tokens() const = 0;
  // Samples overlap by one token: the last target of one is the first input of the next.
  virtual uint64_t num_samples() const = 0;
  // Changes when the tokens change; a resumed run compares it.
  virtual uint64_t fingerprint() const = 0;
  // Sample number `index` of the endless shuffled sequence: each epoch is another permutation of
  // all samples (a keyed bijection, no table). inputs and targets hold seq_len ids each.
  virtual void Sample(uint64_t index, std::span<int32_t> inputs,
                      std::span<int32_t> targets) const = 0;
};

}  // namespace strata::engine
