// Text -> token ids.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "aio/base/status.h"

namespace strata::engine {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  virtual std::string name() const = 0;  // part of the token file's cache key
  virtual uint32_t vocab_size() const = 0;
  virtual uint32_t end_of_document() const = 0;
  // Appends the ids of `text`, which is a piece of a document: whole characters, any length.
  virtual void Encode(std::string_view text, std::vector<uint16_t>& out) const = 0;
};

// Bytes are ids 0..255; 256 ends a document, 257 and 258 are kept for begin and pad.
std::unique_ptr<Tokenizer> MakeByteTokenizer();

}  // namespace strata::engine
