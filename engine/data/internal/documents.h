// A file's documents: a text file is one, each line of a .jsonl file is one.
#pragma once

#include <functional>
#include <string_view>

#include "aio/base/status.h"
#include "engine/data/internal/corpus.h"

namespace strata::engine::data_internal {

struct DocumentHandler {
  // A piece of the current document: whole, valid UTF-8 characters.
  std::function<Status(std::string_view text)> on_text;
  std::function<Status()> on_end_of_document;
  // Bytes of the file read since the last call.
  std::function<void(uint64_t size_bytes)> on_read;
};

// Documents without text are left out. kDataLoss when the file is no longer what was hashed.
Status ReadDocuments(const CorpusFile& file, const DocumentHandler& handler);

}  // namespace strata::engine::data_internal
