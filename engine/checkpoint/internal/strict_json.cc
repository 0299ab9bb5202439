#include "engine/checkpoint/internal/strict_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <string>
#include <vector>

namespace strata::engine {
namespace {

using nlohmann::json;

constexpr size_t kMaxDepth = 32;
constexpr size_t kMaxReasonLength = 200;

// Reads the text for the parser, and shows the Builder how far it has come.
class Cursor {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  Cursor(const char* at, const char** furthest) : at_(at), furthest_(furthest) {}
  reference operator*() const { return *at_; }
  Cursor& operator++() {
    *furthest_ = ++at_;
    return *this;
  }
  friend bool operator==(const Cursor& a, const Cursor& b) { return a.at_ == b.at_; }

 private:
  const char* at_;
  const char** furthest_;
};

// nlohmann's parser calls this with one event after another; false stops it.
class Builder : public nlohmann::json_sax<json> {
 public:
  bool null() override { return Put(nullptr) != nullptr; }
  bool boolean(bool value) override { return Put(value) != nullptr; }
  bool number_integer(number_integer_t value) override { return Put(value) != nullptr; }
  bool number_unsigned(number_unsigned_t value) override { return Put(value) != nullptr; }
  bool number_float(number_float_t value, const string_t&) override {
    return Put(value) != nullptr;
  }
  bool string(string_t& value) override { return Put(std::move(value)) != nullptr; }
  bool binary(binary_t&) override { return Fail("binary data"); }
  bool start_object(std::size_t) override { return Open(json::object()); }
  bool start_array(std::size_t) override { return Open(json::array()); }
  bool end_object() override { return Close(); }
  bool end_array() override { return Close(); }

  bool key(string_t& key) override {
    auto [slot, is_new] = open_.back()->get_ref<json::object_t&>().try_emplace(key);
    slot_ = &slot->second;
    return is_new || Fail(fmt::format("duplicate key '{}'", key));
  }

  bool parse_error(std::size_t, const std::string&, const json::exception& error) override {
    // "[json.exception.parse_error.101] parse error at line 1, column 9: syntax error ..."
    std::string_view what = error.what();
    size_t colon = what.find(": ");
    if (colon != std::string_view::npos) what.remove_prefix(colon + 2);
    return Fail(std::string(what));
  }

  const std::string& failure() const { return failure_; }
  json TakeRoot() { return std::move(root_); }

 private:
  // Where the value now stands: as an element of the open array or under the last key.
  json* Put(json value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    if (open_.back()->is_array()) {
      open_.back()->push_back(std::move(value));
      return &open_.back()->back();
    }
    *slot_ = std::move(value);
    return slot_;
  }

  bool Open(json container) {
    if (open_.size() == kMaxDepth) return Fail(fmt::format("nested deeper than {}", kMaxDepth));
    open_.push_back(Put(std::move(container)));
    return true;
  }

  bool Close() {
    open_.pop_back();
    return true;
  }

  bool Fail(std::string reason) {
    failure_ = std::move(reason);
    return false;
  }

  json root_;
  std::vector<json*> open_;  // from the root to where the parser is
  json* slot_ = nullptr;     // of the last key
  std::string failure_;
};

}  // namespace

Result<json> ParseStrictJson(std::string_view text, std::string_view source) {
  const char* furthest = text.data();
  Builder builder;
  if (json::sax_parse(Cursor(text.data(), &furthest), Cursor(text.data() + text.size(), &furthest),
                      &builder))
    return builder.TakeRoot();
  std::string_view read = text.substr(0, static_cast<size_t>(furthest - text.data()));
  size_t line = static_cast<size_t>(std::count(read.begin(), read.end(), '\n')) + 1;
  size_t column = read.size() - (read.rfind('\n') + 1);  // npos + 1 is 0
  return InvalidArgument(fmt::format("{}: line {} column {}: {}", source, line, column,
                                     builder.failure().substr(0, kMaxReasonLength)));
}

}  // namespace strata::engine
