// Stands in for the project's header of the same name, which has PTX and says what each does. The
// layouts are those of the PTX ISA. Products are summed in fp32 in ascending order; a copy is made
// when it is waited for, so that what is read before is not there.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "engine/kernels/dtype.h"

namespace strata::engine::cuda {

namespace emulated {
inline unsigned Group() { return static_cast<unsigned>(fakes::cuda::LaneOfThread()) / 4; }
inline unsigned InGroup() { return static_cast<unsigned>(fakes::cuda::LaneOfThread()) % 4; }

inline float ToFloat(Bf16 x) { return FromBf16(x); }
inline float ToFloat(F16 x) { return FromHalf(x); }
// The lower or upper element of a register.
template <typename T>
float Half(uint32_t both, unsigned index) {
  return ToFloat(T(static_cast<uint16_t>(both >> 16 * index)));
}
inline uint32_t Join(const uint16_t* first, const uint16_t* second) {
  return *first | static_cast<uint32_t>(*second) << 16;
}

// What each lane of the warp has in a register.
struct OfLanes {
  uint32_t values[32];
  explicit OfLanes(uint32_t mine) {
    const uint64_t* all = fakes::cuda::Exchange(&mine, sizeof mine);
    for (int lane = 0; lane < 32; ++lane) values[lane] = static_cast<uint32_t>(all[lane]);
  }
};

// The rows that the lanes name.
struct Rows {
  const uint16_t* rows[32];
  explicit Rows(uintptr_t row) {
    const uint64_t* all = fakes::cuda::Exchange(&row, sizeof row);
    std::memcpy(rows, all, sizeof rows);
  }
};
}  // namespace emulated

using SharedPlace = uintptr_t;
inline SharedPlace PlaceOf(const void* in_shared) {
  return reinterpret_cast<SharedPlace>(in_shared);
}

inline void LoadMatrices(uint32_t (&x)[4], SharedPlace row) {
  const emulated::Rows all(row);
  for (unsigned j = 0; j < 4; ++j) {
    const uint16_t* from = all.rows[j * 8 + emulated::Group()] + 2 * emulated::InGroup();
    x[j] = emulated::Join(from, from + 1);
  }
}
inline void LoadMatricesTransposed(uint32_t (&x)[4], SharedPlace row) {
  const emulated::Rows all(row);
  for (unsigned j = 0; j < 4; ++j) {
    const uint16_t* const* from = all.rows + j * 8 + 2 * emulated::InGroup();
    x[j] = emulated::Join(from[0] + emulated::Group(), from[1] + emulated::Group());
  }
}

template <typename T>
void MultiplyAdd(float (&sums)[4], const uint32_t (&left)[4], uint32_t right0, uint32_t right1) {
  const emulated::OfLanes a[4] = {emulated::OfLanes(left[0]), emulated::OfLanes(left[1]),
                                  emulated::OfLanes(left[2]), emulated::OfLanes(left[3])};
  const emulated::OfLanes b[2] = {emulated::OfLanes(right0), emulated::OfLanes(right1)};
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned row = emulated::Group(), lower = i / 2;  // a[lower]: of rows g + 8
    const unsigned col = 2 * emulated::InGroup() + i % 2;
    for (unsigned k = 0; k < 16; ++k) {
      const unsigned lane = k % 8 / 2, right = k / 8;
      sums[i] = std::fma(emulated::Half<T>(a[lower + 2 * right].values[row * 4 + lane], k % 2),
                         emulated::Half<T>(b[right].values[col * 4 + lane], k % 2), sums[i]);
    }
  }
}

template <typename T>
uint32_t RoundTwo(float first, float second) {
  const auto round = [](float value) -> uint32_t {
    if constexpr (std::is_same_v<T, F16>) return static_cast<uint16_t>(ToHalf(value));
    const uint32_t bits = std::bit_cast<uint32_t>(value);
    return value != value ? 0x7fff : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  };
  return round(first) | round(second) << 16;
}

inline float ExpOfTwo(float x) { return std::exp2(x); }

template <unsigned kBytes>
void StartCopy(void* to, const void* from, bool is_there) {
  static_assert(kBytes == 4 || kBytes == 16);
  fakes::cuda::BeginCopy(to, is_there ? from : nullptr, kBytes);
}
inline void EndCopyGroup() { fakes::cuda::CloseCopyGroup(); }
template <unsigned kLeft>
void WaitForCopyGroups() {
  fakes::cuda::FinishCopyGroups(kLeft);
}

}  // namespace strata::engine::cuda
