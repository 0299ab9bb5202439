// Adam on 8-bit moments (moment_codes.h): block by block, each decoded, updated and encoded in the
// first cache.
//
// A loop has numbers of one width or changes their width, not both: the compiler makes its vectors
// of as many elements as fit of the narrowest type, and shuffles the wide ones.
#include "engine/optimizer/internal/adam_element.h"
#include "engine/optimizer/internal/adam_kernel.h"
#include "engine/optimizer/moment_codes.h"

namespace strata::engine::STRATA_ISA {
namespace {

constexpr uint64_t kElements = kScaledElements;

// A block as numbers of 32 bits. Behind a tensor's last element come zeros.
struct Block {
  int32_t weight[kElements], remainder[kElements], m_code[kElements], v_code[kElements];
  float g[kElements], p[kElements], m[kElements], v[kElements];
};

// Where a block is, and how it is rounded.
template <typename Gradient>
struct Places {
  Bf16* weight;
  int16_t* remainder;
  uint8_t* m;
  uint8_t* v;
  const Gradient* gradient;
  uint8_t* m_scale;
  uint8_t* v_scale;
  uint32_t dither;
};

// Codes and halves to and from 32 bits.
template <typename Narrow>
inline void Widen(const Narrow* __restrict from, int32_t* __restrict to) {
  for (uint64_t i = 0; i < kElements; ++i) to[i] = static_cast<int32_t>(from[i]);
}
template <typename Narrow>
inline void Shorten(const int32_t* __restrict from, Narrow* __restrict to) {
  for (uint64_t i = 0; i < kElements; ++i) to[i] = static_cast<Narrow>(from[i]);
}
template <typename Gradient>
inline void WidenGradient(const Gradient* __restrict from, float* __restrict to) {
  for (uint64_t i = 0; i < kElements; ++i) to[i] = ToFloat(from[i]);
}

template <typename Gradient>
inline void Load(const Places<Gradient>& from, Block& block) {
  Widen(from.weight, block.weight);
  Widen(from.remainder, block.remainder);
  Widen(from.m, block.m_code);
  Widen(from.v, block.v_code);
  WidenGradient(from.gradient, block.g);
}

template <typename Gradient>
inline void Store(const Block& block, const Places<Gradient>& to) {
  Shorten(block.weight, to.weight);
  Shorten(block.remainder, to.remainder);
  Shorten(block.m_code, to.m);
  Shorten(block.v_code, to.v);
}

template <bool kL2>
inline void Update(const AdamScalars& s, int32_t m_base, int32_t v_base, Block& block) {
  for (uint64_t i = 0; i < kElements; ++i) {
    const uint32_t master =
        (static_cast<uint32_t>(block.weight[i]) << 16) + static_cast<uint32_t>(block.remainder[i]);
    const Element before = {std::bit_cast<float>(master), DecodeM(block.m_code[i], m_base),
                            DecodeV(block.v_code[i], v_base)};
    const Element e = Updated<kL2>(s, before, block.g[i]);
    block.p[i] = e.p;
    block.m[i] = e.m;
    block.v[i] = e.v;
  }
}

inline uint32_t LargestMagnitude(const float* values) {
  int32_t largest = 0;
  for (uint64_t i = 0; i < kElements; ++i) {
    const int32_t bits = std::bit_cast<int32_t>(values[i]) & 0x7fffffff;
    largest = bits > largest ? bits : largest;
  }
  return static_cast<uint32_t>(largest);
}

inline void Encode(int32_t m_base, int32_t v_base, uint32_t dither, Block& block) {
  for (uint64_t i = 0; i < kElements; ++i) {
    const uint32_t bits = std::bit_cast<uint32_t>(block.p[i]);
    const auto rounded = static_cast<uint32_t>(FromFloat<Bf16>(block.p[i]));
    block.weight[i] = static_cast<int32_t>(rounded);
    block.remainder[i] = static_cast<int32_t>(bits - (rounded << 16));
    const uint32_t random = DitherBits(dither + static_cast<uint32_t>(i));
    block.m_code[i] = EncodeM(block.m[i], m_base, DitherOfM(random));
    block.v_code[i] = EncodeV(block.v[i], v_base, DitherOfV(random));
  }
}

template <bool kL2, typename Gradient>
inline void StepBlock(const AdamScalars& s, const Places<Gradient>& at) {
  alignas(64) Block block;
  Load(at, block);
  Update<kL2>(s, CodeBase(*at.m_scale, kMCodes), CodeBase(*at.v_scale, kVCodes), block);
  *at.m_scale = ScaleOf(LargestMagnitude(block.m), kMCodes);
  *at.v_scale = ScaleOf(LargestMagnitude(block.v), kVCodes);
  Encode(CodeBase(*at.m_scale, kMCodes), CodeBase(*at.v_scale, kVCodes), at.dither, block);
  Store(block, at);
}

// A tensor's last elements, n < kElements, through a block of their own.
template <bool kL2, typename Gradient>
void StepRest(const AdamScalars& s, const Places<Gradient>& at, uint64_t n) {
  Bf16 weight[kElements] = {};
  int16_t remainder[kElements] = {};
  uint8_t m[kElements] = {}, v[kElements] = {};
  Gradient gradient[kElements] = {};
  std::memcpy(weight, at.weight, n * sizeof(Bf16));
  std::memcpy(remainder, at.remainder, n * sizeof(int16_t));
  std::memcpy(m, at.m, n);
  std::memcpy(v, at.v, n);
  std::memcpy(gradient, at.gradient, n * sizeof(Gradient));
  StepBlock<kL2, Gradient>(s,
                           {weight, remainder, m, v, gradient, at.m_scale, at.v_scale, at.dither});
  std::memcpy(at.weight, weight, n * sizeof(Bf16));
  std::memcpy(at.remainder, remainder, n * sizeof(int16_t));
  std::memcpy(at.m, m, n);
  std::memcpy(at.v, v, n);
}

template <bool kL2, typename Gradient>
void StepAs(const AdamScalars& s, const AdamSlices& in) {
  for (uint64_t i = 0; i < in.num_elements; i += kElements) {
    const Places<Gradient> at{.weight = reinterpret_cast<Bf16*>(in.weight) + i,
                              .remainder = reinterpret_cast<int16_t*>(in.master) + i,
                              .m = reinterpret_cast<uint8_t*>(in.m) + i,
                              .v = reinterpret_cast<uint8_t*>(in.v) + i,
                              .gradient = reinterpret_cast<const Gradient*>(in.gradient) + i,
                              .m_scale = in.m_scales + i / kScaledElements,
                              .v_scale = in.v_scales + i / kScaledElements,
                              .dither = in.dither + static_cast<uint32_t>(i)};
    if (in.num_elements - i >= kElements) {
      StepBlock<kL2>(s, at);
    } else {
      StepRest<kL2>(s, at, in.num_elements - i);
    }
  }
}

}  // namespace

void StepInt8(const AdamScalars& s, const AdamSlices& in) {
  WithElementType(in.gradient_dtype, [&]<typename Gradient>(Gradient) {
    if (s.mode == AdamMode::kAdam) {
      StepAs<true, Gradient>(s, in);
    } else {
      StepAs<false, Gradient>(s, in);
    }
  });
}

}  // namespace strata::engine::STRATA_ISA
