// The safetensors format, in which Hugging Face distributes weights: named tensors in one file.
//
//   8 bytes   length of the header, little-endian
//   header    JSON: {"a.weight": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}, ...}
//   data      the tensors, one after the other without gaps
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "aio/base/status.h"
#include "aio/file.h"
#include "engine/kernels/dtype.h"

namespace strata::engine {

struct SafetensorsEntry {
  std::string name;
  std::string dtype;  // the format's own word, "BF16"; others than DType has are possible: "I64"
  std::vector<uint64_t> shape;
  uint64_t offset_bytes = 0;  // from the start of the data
  uint64_t size_bytes = 0;
};

// "F32", "BF16", "F16", and back.
std::string_view SafetensorsName(DType dtype);
std::optional<DType> DTypeOfSafetensorsName(std::string_view name);

// A whole header, from its length to the spaces that let the data start at a multiple of 8 bytes.
// `metadata`: what else it says about the file, as readers show it.
std::string MakeSafetensorsHeader(std::span<const SafetensorsEntry> entries,
                                  const std::map<std::string, std::string>& metadata = {});

// Of the JSON of a header and the size of the file it stands in: its entries in the order of their
// data, which is proven to lie in the file without gaps or overlaps and to have the size that shape
// and dtype say. kInvalidArgument: not a safetensors header; kDataLoss: the file is cut off or its
// offsets are wrong. `source` goes into messages, which also name the tensor.
Result<std::vector<SafetensorsEntry>> ParseSafetensorsHeader(std::string_view json,
                                                             uint64_t file_size_bytes,
                                                             std::string_view source);

// A file open for reading. Thread-safe.
class SafetensorsFile {
 public:
  // Reads and checks the header, not the data.
  static Result<SafetensorsFile> Open(const std::string& path);

  const std::string& path() const { return file_.path(); }
  const std::vector<SafetensorsEntry>& entries() const { return entries_; }

  // Elements [first, first + out.size()) of an entry of this file whose dtype is one of DType, as
  // fp32, without rounding. Needs 32 KiB of stack and no other memory.
  Status Read(const SafetensorsEntry& entry, uint64_t first, std::span<float> out) const;

 private:
  SafetensorsFile(aio::File file, uint64_t data_offset_bytes, std::vector<SafetensorsEntry> entries)
      : file_(std::move(file)),
        data_offset_bytes_(data_offset_bytes),
        entries_(std::move(entries)) {}

  aio::File file_;
  uint64_t data_offset_bytes_;
  std::vector<SafetensorsEntry> entries_;
};

}  // namespace strata::engine
