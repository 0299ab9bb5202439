#include "engine/config/internal/reader.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <ranges>

#include "aio/base/units.h"
#include "engine/config/internal/nearest.h"

namespace strata::engine::config_internal {
namespace {

std::string KindOf(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::table:
      return "a section";
    case toml::node_type::array:
      return "an array";
    case toml::node_type::string:
      return QuoteToml(node.as_string()->get());
    case toml::node_type::integer:
      return fmt::format("{}", node.as_integer()->get());
    case toml::node_type::floating_point:
      return fmt::format("{}", node.as_floating_point()->get());
    case toml::node_type::boolean:
      return node.as_boolean()->get() ? "true" : "false";
    default:
      return "a date or time";
  }
}

bool Contains(const NumberRange& range, double value) {
  bool above = range.without_min ? value > range.min : value >= range.min;
  bool below = range.without_max ? value < range.max : value <= range.max;
  return above && below;  // false for NaN
}

std::string ToText(const NumberRange& range) {
  return fmt::format("a number in {}{}, {}{}", range.without_min ? '(' : '[', range.min, range.max,
                     range.without_max ? ')' : ']');
}

std::string ToText(IntegerRange range) {
  return fmt::format("an integer in [{}, {}]", range.min, range.max);
}

std::string ToSizeText(IntegerRange range) {
  return fmt::format("a size from {} to {}, as in \"64MiB\"", FormatBytes(range.min),
                     FormatBytes(range.max));
}

std::string InSection(std::string_view section) {
  return section.empty() ? "outside the sections" : fmt::format("in [{}]", section);
}

std::string Join(const std::string& section, std::string_view key) {
  return section.empty() ? std::string(key) : fmt::format("{}.{}", section, key);
}

}  // namespace

Reader::Reader(std::span<const TomlLayer> layers, std::string config_directory,
               std::string working_directory)
    : layers_(layers),
      counted_layers_(layers),
      config_directory_(std::move(config_directory)),
      working_directory_(std::move(working_directory)) {}

std::vector<std::string> Reader::Errors() {
  for (const TomlLayer& layer : layers_) CheckTable(layer, layer.table, "");
  return std::move(errors_);
}

std::string Reader::SourceOf(std::initializer_list<std::string_view> prefixes) const {
  return WithOverrides(layers_[0].name, prefixes);
}

std::string Reader::WithOverrides(std::string where,
                                  std::initializer_list<std::string_view> prefixes) const {
  std::set<const TomlLayer*> overrides;  // in the order of the command line
  for (const auto& [key, layer] : given_by_override_) {
    auto is_start = [&](std::string_view prefix) { return key.starts_with(prefix); };
    if (std::ranges::any_of(prefixes, is_start) && layer->name != where) overrides.insert(layer);
  }
  for (std::string_view separator = " with "; const TomlLayer* layer : overrides) {
    where += fmt::format("{}{}", separator, layer->name);
    separator = " ";
  }
  return where;
}

void Reader::Section(std::string_view name) {
  section_ = name;
  known_keys_[section_];
  aliases_.clear();
}

bool Reader::OptionalSection(std::string_view name, bool /*present*/) {
  Section(name);
  bool is_given = std::ranges::any_of(
      counted_layers_, [&](const TomlLayer& layer) { return SectionOf(layer, name) != nullptr; });
  // Its keys are not visited then: in a file that does not count, none of them is unknown.
  if (!is_given) free_sections_.insert(section_);
  return is_given;
}

void Reader::NumberMap(std::string_view section, std::map<std::string, double>& values,
                       NumberRange range) {
  Section(section);
  free_sections_.insert(section_);
  for (const TomlLayer& layer : layers_) {
    const toml::table* table = SectionOf(layer, section);
    if (table == nullptr) continue;
    for (const auto& [key, node] : *table) {
      double value = 0;
      if (ReadNumber({&layer, &node}, key.str(), range, value))
        values[std::string(key.str())] = value;
    }
  }
}

void Reader::Flag(std::string_view key, bool& value) {
  Found found = Find(key);
  if (!found) return;
  if (!found.node->is_boolean()) return Complain(found, key, "true or false");
  value = found.node->as_boolean()->get();
}

void Reader::Number(std::string_view key, double& value, NumberRange range) {
  if (Found found = Find(key)) ReadNumber(found, key, range, value);
}

void Reader::NumberPair(std::string_view key, std::array<double, 2>& value, NumberRange range) {
  Found found = Find(key);
  if (!found) return;
  const toml::array* array = found.node->as_array();
  if (array == nullptr || array->size() != value.size())
    return Complain(found, key, "an array of two numbers");
  for (size_t i = 0; i < value.size(); ++i)
    ReadNumber({found.layer, array->get(i)}, key, range, value[i]);
}

void Reader::IntegerField(std::string_view key, uint64_t& value, IntegerRange range) {
  if (Found found = Find(key)) ReadInteger(found, key, range, ToText(range), value);
}

void Reader::OptionalInteger(std::string_view key, std::optional<uint64_t>& value,
                             IntegerRange range, std::string_view none_word) {
  Found found = Find(key);
  if (!found) return;
  if (found.node->is_string() && found.node->as_string()->get() == none_word) {
    value.reset();
    return;
  }
  uint64_t number = 0;
  std::string what = fmt::format("\"{}\" or {}", none_word, ToText(range));
  if (ReadInteger(found, key, range, what, number)) value = number;
}

void Reader::OptionalNumber(std::string_view key, std::optional<double>& value, NumberRange range,
                            std::string_view none_word) {
  Found found = Find(key);
  if (!found) return;
  if (found.node->is_string()) {
    if (found.node->as_string()->get() == none_word) return value.reset();
    return Complain(found, key, fmt::format("\"{}\" or {}", none_word, ToText(range)));
  }
  double number = 0;
  if (ReadNumber(found, key, range, number)) value = number;
}

void Reader::Size(std::string_view key, uint64_t& bytes, IntegerRange range) {
  if (Found found = Find(key)) ReadSize(found, key, range, ToSizeText(range), bytes);
}

void Reader::OptionalSize(std::string_view key, std::optional<uint64_t>& bytes, IntegerRange range,
                          std::string_view none_word) {
  Found found = Find(key);
  if (!found) return;
  if (found.node->is_string() && found.node->as_string()->get() == none_word) {
    bytes.reset();
    return;
  }
  uint64_t size_bytes = 0;
  std::string what = fmt::format("\"{}\" or {}", none_word, ToSizeText(range));
  if (ReadSize(found, key, range, what, size_bytes)) bytes = size_bytes;
}

void Reader::ChoiceField(std::string_view key, size_t& index,
                         std::span<const std::string_view> names) {
  Found found = Find(key);
  if (!found) return;
  if (found.node->is_string()) {
    auto name = std::ranges::find(names, found.node->as_string()->get());
    if (name != names.end()) {
      index = static_cast<size_t>(name - names.begin());
      return;
    }
  }
  Complain(found, key,
           fmt::format("{}\"{}\"", names.size() > 1 ? "one of " : "", fmt::join(names, "\", \"")));
}

void Reader::Device(std::string_view key, DeviceChoice& device) {
  Found found = Find(key);
  if (!found) return;
  std::optional<DeviceChoice> choice;
  if (found.node->is_string()) choice = ParseDeviceChoice(found.node->as_string()->get());
  if (!choice) return Complain(found, key, R"("auto", "cpu", "cuda" or "cuda:N", N from 0 on)");
  device = *choice;
}

void Reader::Path(std::string_view key, std::string& path, PathBase base) {
  Found found = Find(key);
  if (found && !ReadPath(found, base, path)) Complain(found, key, "a path in quotes");
}

void Reader::PathList(std::string_view key, std::vector<std::string>& paths, PathBase base) {
  Found found = Find(key);
  if (!found) return;
  std::vector<std::string> given(1);
  if (ReadPath(found, base, given[0])) {
    paths = std::move(given);
    return;
  }
  const toml::array* array = found.node->as_array();
  bool good = array != nullptr && !array->empty();
  given.resize(good ? array->size() : 0);
  for (size_t i = 0; i < given.size(); ++i)
    good = good && ReadPath({found.layer, array->get(i)}, base, given[i]);
  if (!good) return Complain(found, key, "a path in quotes, or an array of them");
  paths = std::move(given);
}

void Reader::Require(std::string_view key) {
  if (Find(key)) return;
  errors_.push_back(
      fmt::format("{}: missing key '{}' in [{}]", SourceOf({section_ + "."}), key, section_));
}

void Reader::Alias(std::string_view alias, std::string_view key) {
  known_keys_[section_].insert(std::string(alias));
  aliases_[std::string(key)] = alias;
}

void Reader::BeginReplaceable(std::initializer_list<std::string_view> keys) {
  counted_layers_ = layers_.subspan(1);
  bool is_replaced = std::ranges::any_of(
      keys, [&](std::string_view key) { return static_cast<bool>(FindExactly(key)); });
  if (!is_replaced) counted_layers_ = layers_;
}

void Reader::Inapplicable(std::string_view key, std::string_view why) {
  Found found = Find(key);
  if (!found) return;
  std::string where = WithOverrides(found.layer->Where(found.node->source()), {section_ + "."});
  errors_.push_back(fmt::format("{}: key '{}' does not apply: {}", where, key, why));
}

void Reader::WithoutEffect(std::string_view key, bool is_flag, std::string_view why,
                           std::vector<std::string>& given) {
  Found found = Find(key);
  if (!found) return;
  if (is_flag != found.node->is_boolean() || (!is_flag && !found.node->is_number()))
    return Complain(found, key, is_flag ? "true or false" : "a number");
  given.push_back(fmt::format("[{}] {}: {}", section_, key, why));
}

const toml::table* Reader::SectionOf(const TomlLayer& layer, std::string_view section) const {
  const toml::table* table = &layer.table;
  for (auto part : std::views::split(section, '.')) {
    const toml::node* node = table->get(std::string_view(part.begin(), part.end()));
    table = node == nullptr ? nullptr : node->as_table();
    if (table == nullptr) return nullptr;
  }
  return table;
}

Reader::Found Reader::Find(std::string_view key) {
  known_keys_[section_].insert(std::string(key));
  Found found = FindWithAlias(key);
  if (found && found.layer->kind == TomlLayer::Kind::kOverride)
    given_by_override_[Join(section_, key)] = found.layer;
  return found;
}

Reader::Found Reader::FindWithAlias(std::string_view key) {
  Found found = FindExactly(key);
  auto alias = aliases_.find(key);
  if (alias == aliases_.end()) return found;
  Found other = FindExactly(alias->second);
  if (!found || !other) return found ? found : other;
  if (found.layer == other.layer)
    Complain(other, alias->second, fmt::format("left out: it is another name of '{}'", key));
  return found.layer > other.layer ? found : other;
}

Reader::Found Reader::FindExactly(std::string_view key) const {
  for (const TomlLayer& layer : std::views::reverse(counted_layers_)) {
    const toml::table* table = SectionOf(layer, section_);
    const toml::node* node = table == nullptr ? nullptr : table->get(key);
    if (node != nullptr) return {&layer, node};
  }
  return {};
}

void Reader::Complain(const Found& found, std::string_view key, std::string_view what) {
  errors_.push_back(fmt::format("{}: [{}] {} must be {}, is {}",
                                found.layer->Where(found.node->source()), section_, key, what,
                                KindOf(*found.node)));
}

bool Reader::ReadNumber(const Found& found, std::string_view key, NumberRange range,
                        double& value) {
  std::optional<double> number;
  if (found.node->is_number()) number = found.node->value<double>();
  if (number && Contains(range, *number)) {
    value = *number;
    return true;
  }
  Complain(found, key, ToText(range));
  return false;
}

bool Reader::ReadInteger(const Found& found, std::string_view key, IntegerRange range,
                         std::string_view what, uint64_t& value) {
  const toml::value<int64_t>* integer = found.node->as_integer();
  if (integer != nullptr && integer->get() >= 0) {
    auto number = static_cast<uint64_t>(integer->get());
    if (number >= range.min && number <= range.max) {
      value = number;
      return true;
    }
  }
  Complain(found, key, what);
  return false;
}

bool Reader::ReadSize(const Found& found, std::string_view key, IntegerRange range,
                      std::string_view what, uint64_t& bytes) {
  if (!found.node->is_string()) return ReadInteger(found, key, range, what, bytes);
  Result<uint64_t> parsed = ParseBytes(found.node->as_string()->get());
  if (parsed.ok() && *parsed >= range.min && *parsed <= range.max) {
    bytes = *parsed;
    return true;
  }
  Complain(found, key, what);
  return false;
}

bool Reader::ReadPath(const Found& found, PathBase base, std::string& path) const {
  const toml::value<std::string>* text = found.node->as_string();
  if (text == nullptr || text->get().empty() || text->get().find('\0') != std::string::npos)
    return false;
  bool from_config = base == PathBase::kConfigFile && found.layer->kind == TomlLayer::Kind::kFile;
  std::filesystem::path directory = from_config ? config_directory_ : working_directory_;
  std::filesystem::path normal = (directory / text->get()).lexically_normal();
  if (!normal.has_filename()) normal = normal.parent_path();  // "dir/" is "dir"
  path = normal.string();
  return true;
}

void Reader::CheckTable(const TomlLayer& layer, const toml::table& table,
                        const std::string& section) {
  if (free_sections_.contains(section)) return;
  for (const auto& [key, node] : table) CheckEntry(layer, section, key, node);
}

void Reader::CheckEntry(const TomlLayer& layer, const std::string& section, const toml::key& key,
                        const toml::node& node) {
  std::string path = Join(section, key.str());
  if (known_keys_.contains(path)) {
    if (node.is_table()) return CheckTable(layer, *node.as_table(), path);
    errors_.push_back(fmt::format("{}: '{}' must be a section, [{}], is {}",
                                  layer.Where(key.source()), key.str(), path, KindOf(node)));
    return;
  }
  auto keys = known_keys_.find(section);
  if (keys != known_keys_.end() && keys->second.contains(key.str())) return;
  errors_.push_back(
      fmt::format("{}: {}", layer.Where(key.source()), Unknown(section, key.str(), node)));
}

std::string Reader::Unknown(const std::string& section, std::string_view key,
                            const toml::node& node) const {
  std::string text = node.is_table() ? fmt::format("unknown section [{}]", Join(section, key))
                                     : fmt::format("unknown key '{}' {}", key, InSection(section));
  std::set<std::string, std::less<>> here;
  if (auto keys = known_keys_.find(section); keys != known_keys_.end()) here = keys->second;
  std::string prefix = section.empty() ? "" : section + ".";
  for (const auto& [name, keys] : known_keys_)
    if (name.starts_with(prefix)) here.insert(name.substr(prefix.size()));
  if (std::string nearest = Nearest(key, here); !nearest.empty())
    return fmt::format("{}; did you mean '{}'?", text, nearest);
  for (const auto& [name, keys] : known_keys_)
    if (keys.contains(key)) return fmt::format("{}; it belongs in [{}]", text, name);
  return fmt::format("{}; known here: {}", text, fmt::join(here, ", "));
}

}  // namespace strata::engine::config_internal
