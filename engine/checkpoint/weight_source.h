// Where a run's first weights come from.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "aio/base/status.h"
#include "engine/model/units.h"

namespace strata::engine {

// Thread-safe: ranks and threads read their slices at once.
class WeightSource {
 public:
  virtual ~WeightSource() = default;
  // Elements [first, first + out.size()) of a whole tensor, row-major, as fp32. Never holds more
  // than a small fixed buffer of its own.
  virtual Status Read(const TensorSpec& tensor, uint64_t first, std::span<float> out) = 0;
};

// The same of a tensor that may be a part: some rows or columns of the source's.
Status ReadTensor(WeightSource& source, const TensorSpec& tensor, uint64_t first,
                  std::span<float> out);

// Norms are 1, the rest normal(0, initializer_range): counter-based (Philox 4x32-10, Salmon et al.
// 2011), keyed by seed and tensor name, indexed by element: any slice, in any order, on any number
// of ranks, gives the same bits.
std::unique_ptr<WeightSource> MakeRandomWeights(uint64_t seed, double initializer_range);

// A Hugging Face directory: model.safetensors, or model.safetensors.index.json and its shards; F32,
// F16 and BF16. Opening checks every tensor of `units`, uncut, against the headers before any is
// read: missing (all of them named), unexpected (all named), wrong shape or dtype, truncated file,
// offsets that overlap or leave gaps, duplicate keys: each one clear error with file and tensor.
Result<std::unique_ptr<WeightSource>> OpenHuggingFaceWeights(const std::string& directory,
                                                             const std::vector<UnitSpec>& units);

}  // namespace strata::engine
