#include "engine/train/portable_about.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace strata::engine {
namespace {

using nlohmann::ordered_json;

constexpr std::string_view kKind = "strata training state";

ordered_json JsonOf(const TensorSpec& tensor) {
  ordered_json json;
  json["name"] = tensor.name;
  json["shape"] = tensor.shape;
  json["offset"] = tensor.offset_elements;
  if (!tensor.is_part()) return json;
  json["whole_shape"] = tensor.whole_shape;
  json["first_row"] = tensor.first_row;
  json["first_col"] = tensor.first_col;
  return json;
}

ordered_json JsonOf(const StateLayout& layout) {
  ordered_json units = ordered_json::array();
  for (const UnitSpec& unit : layout.unit_specs) {
    ordered_json json;
    json["name"] = unit.name;
    json["elements"] = unit.num_elements;
    json["tensors"] = ordered_json::array();
    for (const TensorSpec& tensor : unit.tensors) json["tensors"].push_back(JsonOf(tensor));
    units.push_back(std::move(json));
  }
  return units;
}

}  // namespace

std::string UnitsJson(const StateLayout& layout) { return JsonOf(layout).dump(); }

std::string ToJson(const RunRecord& record, const StateLayout& layout, uint32_t ranks) {
  ordered_json json;
  json["kind"] = kKind;
  json["ranks"] = ranks;
  json["record"] = ordered_json::parse(ToJson(record));
  json["units"] = JsonOf(layout);
  return json.dump();
}

Result<PortableAbout> ParsePortableAbout(std::string_view text) {
  const ordered_json json = ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || json.value("kind", "") != kKind)
    return InvalidArgument(fmt::format("its files hold no {}", kKind));
  try {
    PortableAbout about{
        .record = {}, .ranks = json.at("ranks").get<uint32_t>(), .units = json.at("units").dump()};
    STRATA_ASSIGN_OR_RETURN(about.record, ParseRunRecord(json.at("record").dump()));
    return about;
  } catch (const nlohmann::json::exception& error) {
    return DataLoss(fmt::format("what it says of its files is damaged: {}", error.what()));
  }
}

}  // namespace strata::engine
