#include "engine/data/internal/hasher.h"

#include "aio/base/check.h"

namespace strata::engine::data_internal {

Hasher::Hasher() : state_(XXH3_createState()) {
  STRATA_CHECK(state_ != nullptr);
  STRATA_CHECK(XXH3_64bits_reset(state_.get()) == XXH_OK);
}

void Hasher::Add(const void* bytes, size_t size_bytes) {
  STRATA_CHECK(XXH3_64bits_update(state_.get(), bytes, size_bytes) == XXH_OK);
}

void Hasher::Add(std::string_view text) {
  Add(static_cast<uint64_t>(text.size()));
  Add(text.data(), text.size());
}

}  // namespace strata::engine::data_internal
