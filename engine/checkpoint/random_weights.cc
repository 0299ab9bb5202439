#include <xxhash.h>

#include <algorithm>

#include "engine/checkpoint/normal.h"
#include "engine/checkpoint/weight_source.h"

namespace strata::engine {
namespace {

// Thread-safe: it has no state but its seed.
class RandomWeights : public WeightSource {
 public:
  RandomWeights(uint64_t seed, double initializer_range)
      : seed_(seed), initializer_range_(initializer_range) {}

  Status Read(const TensorSpec& tensor, uint64_t first, std::span<float> out) override {
    STRATA_CHECK(first <= tensor.num_elements && out.size() <= tensor.num_elements - first);
    if (tensor.is_norm) {
      std::fill(out.begin(), out.end(), 1.0f);
      return OkStatus();
    }
    uint64_t stream = XXH3_64bits(tensor.name.data(), tensor.name.size());
    FillNormal({.seed = seed_, .stream = stream, .standard_deviation = initializer_range_}, first,
               out);
    return OkStatus();
  }

 private:
  uint64_t seed_;
  double initializer_range_;
};

}  // namespace

std::unique_ptr<WeightSource> MakeRandomWeights(uint64_t seed, double initializer_range) {
  return std::make_unique<RandomWeights>(seed, initializer_range);
}

}  // namespace strata::engine
