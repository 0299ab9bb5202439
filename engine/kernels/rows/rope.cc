#include <algorithm>

#include "engine/kernels/rows/declarations.h"
#include "engine/kernels/rows/elements.h"
#include "engine/kernels/rows/functions.h"

namespace strata::engine::STRATA_ISA {
namespace {

// Pairs of one head that are rotated together: their sines and cosines fit the stack.
constexpr size_t kPairs = 64;

struct Rotation {
  float sine[kPairs];
  float cosine[kPairs];
};

// The angle is an fp32 product, as in Hugging Face's Llama; its sine and cosine are rounded once.
void FillRotation(const RopeRows& in, float position, size_t first, size_t count,
                  Rotation& __restrict rotation) {
  const float* __restrict inverse_frequency = in.inverse_frequency + first;
  const float cosine_factor = in.attention_factor;
  const float sine_factor = in.attention_factor * in.sign;
  for (size_t i = 0; i < count; ++i) {
    const float angle = position * inverse_frequency[i];
    const SinCos both = SineAndCosine(static_cast<double>(angle));
    rotation.sine[i] = static_cast<float>(both.sine) * sine_factor;
    rotation.cosine[i] = static_cast<float>(both.cosine) * cosine_factor;
  }
}

template <typename T>
void RotatePairs(T* __restrict low, T* __restrict high, const Rotation& rotation, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    const float a = ToFloat(low[i]);
    const float b = ToFloat(high[i]);
    low[i] = FromFloat<T>(a * rotation.cosine[i] - b * rotation.sine[i]);
    high[i] = FromFloat<T>(b * rotation.cosine[i] + a * rotation.sine[i]);
  }
}

template <typename T>
void RotateRow(const RopeRows& in, T* row, float position) {
  const size_t half = in.head_dim / 2;
  Rotation rotation;
  for (size_t first = 0; first < half; first += kPairs) {
    const size_t count = std::min(kPairs, half - first);
    FillRotation(in, position, first, count, rotation);
    for (size_t head = 0; head < in.x.cols; head += in.head_dim) {
      RotatePairs(row + head + first, row + head + half + first, rotation, count);
    }
  }
}

}  // namespace

void RotateRows(const RopeRows& in) {
  WithElementType(in.x.dtype, [&]<typename T>(T) {
    for (size_t row = 0; row < in.x.rows; ++row) {
      const size_t position = (in.first_position + row) % in.seq_len;
      RotateRow(in, RowOf<T>(in.x, row), static_cast<float>(position));
    }
  });
}

}  // namespace strata::engine::STRATA_ISA
