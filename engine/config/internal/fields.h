// One list of all sections and keys, walked by the reader and by the writer, so that neither can
// know a key that the other does not.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/config/run_config.h"

namespace strata::engine::config_internal {

struct IntegerRange {
  uint64_t min = 0;
  uint64_t max = 0;
};

struct NumberRange {
  double min = 0;
  double max = 0;
  bool without_min = false;
  bool without_max = false;
};

// What a relative path in the file is relative to.
enum class PathBase { kConfigFile, kWorkingDirectory };

// Reading, a value that is not given stays as it is. Keys belong to the section begun last.
class FieldVisitor {
 public:
  virtual ~FieldVisitor() = default;

  virtual void Section(std::string_view name) = 0;
  // A section whose presence means something: whether to visit its keys.
  virtual bool OptionalSection(std::string_view name, bool present) = 0;
  // A section with keys of the user's choosing.
  virtual void NumberMap(std::string_view section, std::map<std::string, double>& values,
                         NumberRange range) = 0;

  virtual void Flag(std::string_view key, bool& value) = 0;
  virtual void Number(std::string_view key, double& value, NumberRange range) = 0;
  virtual void NumberPair(std::string_view key, std::array<double, 2>& value,
                          NumberRange range) = 0;
  // "64MiB", or a number of bytes.
  virtual void Size(std::string_view key, uint64_t& bytes, IntegerRange range) = 0;
  // `none_word` stands for no value.
  virtual void OptionalSize(std::string_view key, std::optional<uint64_t>& bytes,
                            IntegerRange range, std::string_view none_word) = 0;
  virtual void OptionalInteger(std::string_view key, std::optional<uint64_t>& value,
                               IntegerRange range, std::string_view none_word) = 0;
  // "auto", "cpu", "cuda" or "cuda:N".
  virtual void Device(std::string_view key, DeviceChoice& device) = 0;
  virtual void OptionalNumber(std::string_view key, std::optional<double>& value,
                              NumberRange range, std::string_view none_word) = 0;
  // Paths are empty when not given.
  virtual void Path(std::string_view key, std::string& path, PathBase base) = 0;
  // One string or an array of them.
  virtual void PathList(std::string_view key, std::vector<std::string>& paths, PathBase base) = 0;

  template <typename T>
  void Integer(std::string_view key, T& value, IntegerRange range) {
    uint64_t wide = value;
    IntegerField(key, wide, range);
    value = static_cast<T>(wide);
  }
  template <typename Enum, size_t kNumNames>
  void Choice(std::string_view key, Enum& value,
              const std::array<std::string_view, kNumNames>& names) {
    size_t index = static_cast<size_t>(value);
    ChoiceField(key, index, names);
    value = static_cast<Enum>(index);
  }
  // The first name is that of no choice.
  template <typename Enum, size_t kNumNames>
  void OptionalChoice(std::string_view key, std::optional<Enum>& value,
                      const std::array<std::string_view, kNumNames>& names) {
    size_t index = value ? static_cast<size_t>(*value) + 1 : 0;
    ChoiceField(key, index, names);
    value.reset();
    if (index > 0) value = static_cast<Enum>(index - 1);
  }

  // Reading: an error if `key` is not given.
  virtual void Require(std::string_view key) = 0;
  // Reading: `alias` is another name of `key`, to be called before the key's own visit.
  virtual void Alias(std::string_view alias, std::string_view key) = 0;
  // Reading: between the two, what the file gives does not count if an override has one of `keys`,
  // which are of the section begun last.
  virtual void BeginReplaceable(std::initializer_list<std::string_view> keys) = 0;
  virtual void EndReplaceable() = 0;
  // Reading: a key of this section that the choices made so far forbid, and why.
  virtual void Inapplicable(std::string_view key, std::string_view why) = 0;
  // Reading: a number or, of a flag, true or false that is taken, and added to `given` as
  // "[section] key: <why>".
  virtual void WithoutEffect(std::string_view key, bool is_flag, std::string_view why,
                             std::vector<std::string>& given) = 0;
  // Reading: a default that depends on other values.
  template <typename T>
  void Default(T& field, const T& value) {
    if (reading()) field = value;
  }

 protected:
  virtual bool reading() const = 0;
  virtual void IntegerField(std::string_view key, uint64_t& value, IntegerRange range) = 0;
  virtual void ChoiceField(std::string_view key, size_t& index,
                           std::span<const std::string_view> names) = 0;
};

// `model_config_path` is [model] config, which is gone from a resolved config.
void VisitFields(FieldVisitor& visitor, RunConfig& config, std::string& model_config_path);

}  // namespace strata::engine::config_internal
