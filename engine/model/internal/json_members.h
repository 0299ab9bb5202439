// Strict reading of a JSON object: every duplicate, type and range is checked, every message says
// where.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "aio/base/status.h"

namespace strata::engine {

// kInvalidArgument with "source:line:column" for what is not JSON, and for a key that occurs twice
// in one object, of which most parsers, silently, keep the last.
Result<nlohmann::json> ParseJsonObject(std::string_view text, std::string_view source);

// The members of one object. A read that fails returns some value in range and is remembered, so
// that a struct is filled first and status() asked once; the first failure wins. A member that is
// null counts as absent, as configurations write it for "not set". An absent member without a
// fallback is an error.
class JsonMembers {
 public:
  // `object` and `status` outlive it. `prefix` stands before keys in messages: "rope_scaling.".
  JsonMembers(const nlohmann::json& object, std::string_view source, std::string_view prefix,
              Status* status)
      : object_(object), source_(source), prefix_(prefix), status_(status) {}

  bool Has(const char* key) const { return Find(key) != nullptr; }
  // Also takes what was written as a float but is integral: 5e8.
  uint64_t Integer(const char* key, uint64_t max, std::optional<uint64_t> fallback = {});
  // min < value <= max.
  double Real(const char* key, double above, double max, std::optional<double> fallback = {});
  bool Boolean(const char* key, bool fallback);
  std::string String(const char* key, std::string fallback);

  // Remembers kInvalidArgument or kUnimplemented for `key`.
  void Refuse(const char* key, std::string_view why, Code code = Code::kInvalidArgument);
  bool ok() const { return status_->ok(); }

 private:
  const nlohmann::json* Find(const char* key) const;
  void RefuseValue(const char* key, std::string_view expected, const nlohmann::json& value);

  const nlohmann::json& object_;
  std::string_view source_;
  std::string_view prefix_;
  Status* status_;
};

}  // namespace strata::engine
