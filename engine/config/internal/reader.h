// Fills a RunConfig from layers of TOML, the last layer that has a key winning, and collects
// everything that is wrong on the way.
#pragma once

#include <initializer_list>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/config/internal/fields.h"
#include "engine/config/internal/toml_layer.h"

namespace strata::engine::config_internal {

class Reader final : public FieldVisitor {
 public:
  // layers[0] is the file; all outlive the reader. Relative paths are relative to the absolute
  // directories given.
  Reader(std::span<const TomlLayer> layers, std::string config_directory,
         std::string working_directory);

  // After the visit: what is wrong with the values, then what no visit asked for.
  std::vector<std::string> Errors();

  // The file, and the overrides that gave values of keys that start with one of `prefixes`
  // ("section.key"): "run.toml with --set a.b=c". After the visit.
  std::string SourceOf(std::initializer_list<std::string_view> prefixes) const;

  void Section(std::string_view name) override;
  bool OptionalSection(std::string_view name, bool present) override;
  void NumberMap(std::string_view section, std::map<std::string, double>& values,
                 NumberRange range) override;
  void Flag(std::string_view key, bool& value) override;
  void Number(std::string_view key, double& value, NumberRange range) override;
  void NumberPair(std::string_view key, std::array<double, 2>& value, NumberRange range) override;
  void Size(std::string_view key, uint64_t& bytes, IntegerRange range) override;
  void OptionalSize(std::string_view key, std::optional<uint64_t>& bytes, IntegerRange range,
                    std::string_view none_word) override;
  void OptionalInteger(std::string_view key, std::optional<uint64_t>& value, IntegerRange range,
                       std::string_view none_word) override;
  void Device(std::string_view key, DeviceChoice& device) override;
  void OptionalNumber(std::string_view key, std::optional<double>& value, NumberRange range,
                      std::string_view none_word) override;
  void Path(std::string_view key, std::string& path, PathBase base) override;
  void PathList(std::string_view key, std::vector<std::string>& paths, PathBase base) override;
  void Require(std::string_view key) override;
  void Alias(std::string_view alias, std::string_view key) override;
  void BeginReplaceable(std::initializer_list<std::string_view> keys) override;
  void EndReplaceable() override { counted_layers_ = layers_; }
  void Inapplicable(std::string_view key, std::string_view why) override;
  void WithoutEffect(std::string_view key, bool is_flag, std::string_view why,
                     std::vector<std::string>& given) override;

 protected:
  bool reading() const override { return true; }
  void IntegerField(std::string_view key, uint64_t& value, IntegerRange range) override;
  void ChoiceField(std::string_view key, size_t& index,
                   std::span<const std::string_view> names) override;

 private:
  // A value and where it stands.
  struct Found {
    const TomlLayer* layer = nullptr;
    const toml::node* node = nullptr;
    explicit operator bool() const { return node != nullptr; }
  };

  const toml::table* SectionOf(const TomlLayer& layer, std::string_view section) const;
  Found Find(std::string_view key);
  Found FindWithAlias(std::string_view key);
  Found FindExactly(std::string_view key) const;

  // `where`, and the overrides that gave values of such keys.
  std::string WithOverrides(std::string where,
                            std::initializer_list<std::string_view> prefixes) const;
  // "file:3:5: [data] seq_len must be <what>, is <the value>".
  void Complain(const Found& found, std::string_view key, std::string_view what);
  bool ReadNumber(const Found& found, std::string_view key, NumberRange range, double& value);
  bool ReadInteger(const Found& found, std::string_view key, IntegerRange range,
                   std::string_view what, uint64_t& value);
  bool ReadSize(const Found& found, std::string_view key, IntegerRange range, std::string_view what,
                uint64_t& bytes);
  bool ReadPath(const Found& found, PathBase base, std::string& path) const;

  void CheckTable(const TomlLayer& layer, const toml::table& table, const std::string& section);
  void CheckEntry(const TomlLayer& layer, const std::string& section, const toml::key& key,
                  const toml::node& node);
  std::string Unknown(const std::string& section, std::string_view key,
                      const toml::node& node) const;

  std::span<const TomlLayer> layers_;
  std::span<const TomlLayer> counted_layers_;  // without the file inside BeginReplaceable
  std::string config_directory_;
  std::string working_directory_;
  std::string section_;
  std::map<std::string, std::set<std::string, std::less<>>, std::less<>> known_keys_;
  std::set<std::string, std::less<>> free_sections_;
  std::map<std::string, std::string, std::less<>> aliases_;    // of the current section, by key
  std::map<std::string, const TomlLayer*> given_by_override_;  // by "section.key"
  std::vector<std::string> errors_;
};

}  // namespace strata::engine::config_internal
