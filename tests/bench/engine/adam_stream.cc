#include "tests/bench/engine/adam_stream.h"

namespace strata::engine {
namespace STRATA_ISA {
namespace {

// A bit is flipped, as a loop that stores what it loaded would be optimised away. Adam goes on with
// these numbers: only last places change.
template <typename Moment>
void Stream(uint16_t* __restrict low, Moment* __restrict m, Moment* __restrict v,
            const uint16_t* __restrict gradient, uint16_t* __restrict weight, uint64_t n) {
  for (uint64_t i = 0; i < n; ++i) {
    low[i] ^= gradient[i];
    m[i] ^= 1;
    v[i] ^= 1;
    weight[i] ^= 1;
  }
}

void StreamFp32(uint32_t* __restrict master, uint32_t* __restrict m, uint32_t* __restrict v,
                const uint16_t* __restrict gradient, uint16_t* __restrict weight, uint64_t n) {
  for (uint64_t i = 0; i < n; ++i) {
    master[i] ^= 1;
    m[i] ^= 1;
    v[i] ^= 1;
    weight[i] = gradient[i];
  }
}

void StreamSlices(const AdamSlices& in) {
  const auto* gradient = reinterpret_cast<const uint16_t*>(in.gradient);
  auto* weight = reinterpret_cast<uint16_t*>(in.weight);
  auto* low = reinterpret_cast<uint16_t*>(in.master);
  const auto as = [](auto type, std::byte* bytes) {
    return reinterpret_cast<decltype(type)*>(bytes);
  };
  if (in.format == StateFormat::kFp32) {
    StreamFp32(as(uint32_t(), in.master), as(uint32_t(), in.m), as(uint32_t(), in.v), gradient,
               weight, in.num_elements);
  } else if (in.format == StateFormat::kSplit) {
    Stream(low, as(uint32_t(), in.m), as(uint32_t(), in.v), gradient, weight, in.num_elements);
  } else {
    Stream(low, as(uint8_t(), in.m), as(uint8_t(), in.v), gradient, weight, in.num_elements);
  }
}

}  // namespace

extern const AdamStream kAdamStream;
const AdamStream kAdamStream = &StreamSlices;

}  // namespace STRATA_ISA
}  // namespace strata::engine
