#include "engine/model/internal/json_members.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <vector>

namespace strata::engine {
namespace {

using nlohmann::json;

// "source:line:column" of the byte that the parser stopped at, counted from 1 as it counts.
std::string Position(std::string_view text, std::string_view source, size_t byte) {
  std::string_view before = text.substr(0, byte == 0 ? 0 : byte - 1);
  size_t line_start = before.rfind('\n');
  size_t column = line_start == before.npos ? before.size() : before.size() - line_start - 1;
  return fmt::format("{}:{}:{}", source, 1 + std::ranges::count(before, '\n'), column + 1);
}

// The library's text without its own name and position, which come before the first ": ".
std::string_view Reason(std::string_view what) {
  size_t colon = what.find(": ");
  return colon == what.npos ? what : what.substr(colon + 2);
}

// Watches the parser go by and keeps the first key that its object has already.
class DuplicateFinder {
 public:
  bool operator()(int /*depth*/, json::parse_event_t event, const json& parsed) {
    if (event == json::parse_event_t::object_start) open_.emplace_back();
    if (event == json::parse_event_t::object_end) open_.pop_back();
    if (event == json::parse_event_t::key) {
      auto [key, is_new] = open_.back().insert(parsed.get<std::string>());
      if (!is_new && !duplicate_) duplicate_ = *key;
    }
    return true;
  }
  const std::optional<std::string>& duplicate() const { return duplicate_; }

 private:
  std::vector<std::set<std::string>> open_;  // keys seen in each object we are inside of
  std::optional<std::string> duplicate_;
};

bool IsIntegral(const json& value) {
  if (value.is_number_unsigned()) return true;
  if (!value.is_number_float()) return false;
  double number = value.get<double>();
  return number >= 0 && number <= 0x1p53 && number == std::floor(number);
}

}  // namespace

Result<json> ParseJsonObject(std::string_view text, std::string_view source) {
  DuplicateFinder finder;
  try {
    json value = json::parse(text.begin(), text.end(), std::ref(finder));
    if (finder.duplicate()) {
      return InvalidArgument(fmt::format("{}: key '{}' is given twice in one object: keep one",
                                         source, *finder.duplicate()));
    }
    if (!value.is_object()) {
      return InvalidArgument(
          fmt::format("{}: must be a JSON object, is {}", source, value.type_name()));
    }
    return value;
  } catch (const json::parse_error& error) {
    return InvalidArgument(Position(text, source, error.byte) + ": " +
                           std::string(Reason(error.what())));
  } catch (const json::exception& error) {  // a number that no double holds
    return InvalidArgument(fmt::format("{}: {}", source, error.what()));
  }
}

const json* JsonMembers::Find(const char* key) const {
  auto found = object_.find(key);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

void JsonMembers::Refuse(const char* key, std::string_view why, Code code) {
  if (status_->ok())
    *status_ = {code, fmt::format("{}: key '{}{}': {}", source_, prefix_, key, why)};
}

void JsonMembers::RefuseValue(const char* key, std::string_view expected, const json& value) {
  std::string text = value.dump(-1, ' ', false, json::error_handler_t::replace);
  if (text.size() > 60) text = text.substr(0, 57) + "...";
  Refuse(key, fmt::format("must be {}, is {}", expected, text));
}

uint64_t JsonMembers::Integer(const char* key, uint64_t max, std::optional<uint64_t> fallback) {
  const json* value = Find(key);
  if (value == nullptr) {
    if (!fallback) Refuse(key, fmt::format("is missing: give an integer from 1 to {}", max));
    return fallback.value_or(1);
  }
  uint64_t number = IsIntegral(*value) ? value->get<uint64_t>() : 0;
  if (number >= 1 && number <= max) return number;
  RefuseValue(key, fmt::format("an integer from 1 to {}", max), *value);
  return 1;
}

double JsonMembers::Real(const char* key, double above, double max,
                         std::optional<double> fallback) {
  const json* value = Find(key);
  if (value == nullptr) {
    if (!fallback) Refuse(key, fmt::format("is missing: give a number above {}", above));
    return fallback.value_or(max);
  }
  double number = value->is_number() ? value->get<double>() : above;
  if (number > above && number <= max) return number;
  RefuseValue(key, fmt::format("a number above {} and at most {}", above, max), *value);
  return max;
}

bool JsonMembers::Boolean(const char* key, bool fallback) {
  const json* value = Find(key);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) RefuseValue(key, "true or false", *value);
  return value->is_boolean() ? value->get<bool>() : fallback;
}

std::string JsonMembers::String(const char* key, std::string fallback) {
  const json* value = Find(key);
  if (value == nullptr) return fallback;
  if (!value->is_string()) RefuseValue(key, "a string", *value);
  return value->is_string() ? value->get<std::string>() : fallback;
}

}  // namespace strata::engine
