#include <bit>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "engine/comm/internal/reduce.h"

namespace strata::engine::STRATA_ISA {
namespace {

constexpr size_t kLineBytes = 64;
constexpr size_t kBlockElements = 2048;  // accumulated in the first cache

// One line of the cache, past it. Intrinsics, as there is no other way to say it. Measured on
// copies of 64 MiB by two ranks: 1.7 times as fast as memcpy, which reads every line before it
// writes it.
inline void StreamLine(std::byte* to, const std::byte* from) {
#if defined(__AVX512F__)
  _mm512_stream_si512(reinterpret_cast<__m512i*>(to),
                      _mm512_loadu_si512(reinterpret_cast<const void*>(from)));
#elif defined(__AVX2__)
  for (size_t at = 0; at < kLineBytes; at += 32) {
    _mm256_stream_si256(reinterpret_cast<__m256i*>(to + at),
                        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + at)));
  }
#elif defined(__x86_64__)
  for (size_t at = 0; at < kLineBytes; at += 16) {
    _mm_stream_si128(reinterpret_cast<__m128i*>(to + at),
                     _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + at)));
  }
#else
  std::memcpy(to, from, kLineBytes);
#endif
}

// Before anybody is told that the bytes are there.
inline void EndStream() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

void StreamBytes(std::byte* to, const std::byte* from, size_t size_bytes) {
  const size_t past_line = reinterpret_cast<uintptr_t>(to) % kLineBytes;
  size_t head = past_line == 0 ? 0 : kLineBytes - past_line;
  if (head > size_bytes) head = size_bytes;
  if (head > 0) std::memcpy(to, from, head);
  size_t at = head;
  for (; at + kLineBytes <= size_bytes; at += kLineBytes) StreamLine(to + at, from + at);
  if (at < size_bytes) std::memcpy(to + at, from + at, size_bytes - at);
}

void Copy(std::byte* to, const std::byte* from, size_t size_bytes, Writes writes) {
  if (size_bytes == 0) return;
  if (writes == Writes::kThroughCaches) {
    std::memcpy(to, from, size_bytes);
    return;
  }
  StreamBytes(to, from, size_bytes);
  EndStream();
}

// Sources may be anywhere: payloads need not be aligned.
inline float LoadF32(const std::byte* from, size_t i) {
  float value;
  std::memcpy(&value, from + i * sizeof(float), sizeof(float));
  return value;
}
inline float LoadBf16(const std::byte* from, size_t i) {
  uint16_t bits;
  std::memcpy(&bits, from + i * sizeof(uint16_t), sizeof(uint16_t));
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}
inline float LoadF16(const std::byte* from, size_t i) {
  _Float16 value;
  std::memcpy(&value, from + i * sizeof(value), sizeof(value));
  return static_cast<float>(value);
}
// ToBf16 of dtype.h with a choice in place of the branch, which vectorises.
inline uint16_t RoundToBf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t rounded = (bits + 0x8000u) >> 16;
  const uint32_t quiet = (bits >> 16) | 0x0040u;
  return static_cast<uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? quiet : rounded);
}

inline uint16_t RoundToF16(float value) {
  return std::bit_cast<uint16_t>(static_cast<_Float16>(value));
}

void AddF32(float* sum, const std::byte* from, size_t n) {
  for (size_t i = 0; i < n; ++i) sum[i] += LoadF32(from, i);
}
void AddBf16(float* sum, const std::byte* from, size_t n) {
  for (size_t i = 0; i < n; ++i) sum[i] += LoadBf16(from, i);
}
void AddF16(float* sum, const std::byte* from, size_t n) {
  for (size_t i = 0; i < n; ++i) sum[i] += LoadF16(from, i);
}
void AddBlock(float* sum, const std::byte* from, DType dtype, size_t n) {
  if (dtype == DType::kF32) return AddF32(sum, from, n);
  if (dtype == DType::kBf16) return AddBf16(sum, from, n);
  AddF16(sum, from, n);
}
void LoadBlock(float* sum, const std::byte* from, DType dtype, size_t n) {
  if (dtype == DType::kF32) {
    std::memcpy(sum, from, n * sizeof(float));
  } else if (dtype == DType::kBf16) {
    for (size_t i = 0; i < n; ++i) sum[i] = LoadBf16(from, i);
  } else {
    for (size_t i = 0; i < n; ++i) sum[i] = LoadF16(from, i);
  }
}
void RoundBlock(uint16_t* to, const float* sum, DType dtype, size_t n) {
  if (dtype == DType::kBf16) {
    for (size_t i = 0; i < n; ++i) to[i] = RoundToBf16(sum[i]);
  } else {
    for (size_t i = 0; i < n; ++i) to[i] = RoundToF16(sum[i]);
  }
}

void SumBlock(const SumArguments& a, size_t begin, size_t n) {
  alignas(kLineBytes) float sum[kBlockElements];
  const size_t source_offset = begin * SizeOf(a.source_dtype);
  size_t next = 0;
  if (a.partial != nullptr) {
    std::memcpy(sum, a.partial + begin, n * sizeof(float));
  } else {
    LoadBlock(sum, a.sources[next++] + source_offset, a.source_dtype, n);
  }
  for (; next < a.sources.size(); ++next)
    AddBlock(sum, a.sources[next] + source_offset, a.source_dtype, n);
  const size_t element_bytes = SizeOf(a.to_dtype);
  alignas(kLineBytes) uint16_t rounded[kBlockElements];
  const void* result = sum;
  if (a.to_dtype != DType::kF32) {
    RoundBlock(rounded, sum, a.to_dtype, n);
    result = rounded;
  }
  std::byte* to = a.to + begin * element_bytes;
  if (a.writes == Writes::kPastCaches) {
    StreamBytes(to, static_cast<const std::byte*>(result), n * element_bytes);
  } else {
    std::memcpy(to, result, n * element_bytes);
  }
}

void Sum(const SumArguments& arguments) {
  for (size_t begin = 0; begin < arguments.num_elements; begin += kBlockElements) {
    const size_t left = arguments.num_elements - begin;
    SumBlock(arguments, begin, left < kBlockElements ? left : kBlockElements);
  }
  if (arguments.writes == Writes::kPastCaches) EndStream();
}

}  // namespace

extern const ReduceKernels kReduceKernels;
const ReduceKernels kReduceKernels = {.copy = &Copy, .sum = &Sum};

}  // namespace strata::engine::STRATA_ISA
