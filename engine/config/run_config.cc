#include "engine/config/run_config.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <filesystem>
#include <tuple>

#include "aio/base/units.h"
#include "aio/file.h"
#include "engine/config/internal/reader.h"
#include "engine/config/internal/resolve.h"
#include "engine/config/internal/writer.h"

namespace strata::engine {
namespace {

using config_internal::TomlLayer;

auto FieldsOf(const prefetch::Hardware& h) {
  return std::tie(h.nvme_read_bytes_per_s, h.nvme_write_bytes_per_s, h.nvme_mixed_bytes_per_s,
                  h.h2d_bytes_per_s, h.d2h_bytes_per_s, h.checksum_bytes_per_s,
                  h.nvme_bytes_per_core_s, h.cores, h.op_threads, h.device_shares_cores, h.rates,
                  h.compute_default_per_s, h.device_memory_bytes_per_s, h.comm_default_per_s,
                  h.cpu_default_per_s, h.node_latency_s);
}

bool SameHardware(const std::optional<prefetch::Hardware>& a,
                  const std::optional<prefetch::Hardware>& b) {
  if (!a || !b) return a.has_value() == b.has_value();
  return FieldsOf(*a) == FieldsOf(*b);
}

Result<std::vector<TomlLayer>> ParseLayers(std::string_view text, const std::string& source_name,
                                           const std::vector<std::string>& overrides) {
  std::vector<TomlLayer> layers;
  STRATA_ASSIGN_OR_RETURN(TomlLayer file, config_internal::ParseFileLayer(text, source_name));
  layers.push_back(std::move(file));
  for (const std::string& override_text : overrides) {
    STRATA_ASSIGN_OR_RETURN(TomlLayer layer, config_internal::ParseOverrideLayer(override_text));
    layers.push_back(std::move(layer));
  }
  return layers;
}

}  // namespace

bool operator==(const RunConfig& a, const RunConfig& b) {
  auto comparable = [](const RunConfig& c) {
    return std::tie(c.model, c.data, c.train, c.optimizer, c.fp16, c.scheduler, c.zero, c.aio,
                    c.memory, c.checkpoint);
  };
  return comparable(a) == comparable(b) && SameHardware(a.hardware, b.hardware);
}

Result<RunConfig> LoadRunConfig(const std::string& path,
                                const std::vector<std::string>& overrides) {
  STRATA_ASSIGN_OR_RETURN(std::string text, aio::ReadSmallFile(path, 16_MiB));
  return ParseRunConfig(text, path, overrides);
}

Result<RunConfig> ParseRunConfig(std::string_view text, const std::string& source_name,
                                 const std::vector<std::string>& overrides) {
  STRATA_ASSIGN_OR_RETURN(std::vector<TomlLayer> layers, ParseLayers(text, source_name, overrides));
  std::error_code error;
  std::filesystem::path here = std::filesystem::current_path(error);
  if (error) return ErrnoStatus(error.value(), "find the working directory");
  std::filesystem::path config_directory = (here / source_name).parent_path();

  RunConfig config;
  std::string model_config_path;
  config_internal::Reader reader(layers, config_directory.string(), here.string());
  config_internal::VisitFields(reader, config, model_config_path);
  std::vector<std::string> errors = reader.Errors();
  // Values that are wrong by themselves would only cause confusing errors together.
  if (errors.empty()) config_internal::Resolve(reader, model_config_path, config, errors);
  if (!errors.empty()) return InvalidArgument(fmt::format("{}", fmt::join(errors, "\n")));
  return config;
}

std::string ToToml(const RunConfig& config) {
  RunConfig copy = config;  // the visitor takes what it may change
  std::string no_model_config;
  config_internal::Writer writer;
  config_internal::VisitFields(writer, copy, no_model_config);
  return std::move(writer).Text();
}

}  // namespace strata::engine
