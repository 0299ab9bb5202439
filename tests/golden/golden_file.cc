#include "tests/golden/golden_file.h"

#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

namespace strata::golden {
namespace {

using nlohmann::json;

// `count` little-endian 4-byte values from value `offset` of the payload.
template <typename T>
std::vector<T> Values(const std::string& payload, uint64_t offset, uint64_t count) {
  STRATA_CHECK((offset + count) * sizeof(T) <= payload.size());
  std::vector<T> values(count);
  std::memcpy(values.data(), payload.data() + offset * sizeof(T), count * sizeof(T));
  return values;
}

LlamaTensor Tensor(const json& entry, const std::string& payload) {
  LlamaTensor tensor;
  tensor.shape = entry.at("shape").get<std::vector<uint64_t>>();
  uint64_t count = 1;
  for (uint64_t size : tensor.shape) count *= size;
  tensor.weight = Values<float>(payload, entry.at("weight_offset").get<uint64_t>(), count);
  tensor.gradient = Values<float>(payload, entry.at("gradient_offset").get<uint64_t>(), count);
  return tensor;
}

LlamaFile Parse(const std::string& header_text, const std::string& payload) {
  const json header = json::parse(header_text);
  LlamaFile file;
  file.config_json = header.at("config").dump();
  file.batch = header.at("batch").get<uint64_t>();
  file.seq_len = header.at("seq_len").get<uint64_t>();
  file.loss = header.at("loss").get<double>();
  file.tokens = Values<int32_t>(payload, 0, file.batch * (file.seq_len + 1));
  for (const json& entry : header.at("tensors")) {
    file.tensors[entry.at("name").get<std::string>()] = Tensor(entry, payload);
  }
  return file;
}

}  // namespace

Result<LlamaFile> ReadLlamaFile(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  std::string header;
  if (!std::getline(stream, header)) {
    return NotFound(path + ": cannot be read: run tests/golden/make_llama.py");
  }
  std::ostringstream payload;
  payload << stream.rdbuf();
  try {
    return Parse(header, payload.str());
  } catch (const json::exception& error) {
    return DataLoss(path + ": " + error.what());
  }
}

}  // namespace strata::golden
