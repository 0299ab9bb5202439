// XXH3 over bytes that come in pieces.
#pragma once

#include <xxhash.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

namespace strata::engine::data_internal {

class Hasher {
 public:
  Hasher();

  void Add(const void* bytes, size_t size_bytes);
  void Add(uint64_t number) { Add(&number, sizeof(number)); }
  // With its length, so that "ab","c" and "a","bc" differ.
  void Add(std::string_view text);
  uint64_t Digest() const { return XXH3_64bits_digest(state_.get()); }

 private:
  struct Free {
    void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
  };
  std::unique_ptr<XXH3_state_t, Free> state_;
};

}  // namespace strata::engine::data_internal
