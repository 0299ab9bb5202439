// Writes a RunConfig as TOML.
#pragma once

#include <string>
#include <string_view>

#include "engine/config/internal/fields.h"

namespace strata::engine::config_internal {

class Writer final : public FieldVisitor {
 public:
  std::string Text() && { return std::move(text_); }

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
  void Require(std::string_view /*key*/) override {}
  void Alias(std::string_view /*alias*/, std::string_view /*key*/) override {}
  void BeginReplaceable(std::initializer_list<std::string_view> /*keys*/) override {}
  void EndReplaceable() override {}
  void Inapplicable(std::string_view /*key*/, std::string_view /*why*/) override {}
  void WithoutEffect(std::string_view /*key*/, bool /*is_flag*/, std::string_view /*why*/,
                     std::vector<std::string>& /*given*/) override {}

 protected:
  bool reading() const override { return false; }
  void IntegerField(std::string_view key, uint64_t& value, IntegerRange range) override;
  void ChoiceField(std::string_view key, size_t& index,
                   std::span<const std::string_view> names) override;

 private:
  void Line(std::string_view key, std::string_view value);

  std::string text_;
};

}  // namespace strata::engine::config_internal
