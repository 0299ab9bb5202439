#include "engine/comm/internal/reduce.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "engine/kernels/isa.h"

namespace strata::engine {
namespace {

class ReduceTest : public testing::TestWithParam<std::string_view> {
 protected:
  void SetUp() override {
    kernels_ = FindReduceKernels(GetParam());
    ASSERT_NE(kernels_, nullptr);
  }
  const ReduceKernels* kernels_ = nullptr;
};

INSTANTIATE_TEST_SUITE_P(InstructionSets, ReduceTest, testing::ValuesIn(InstructionSets()),
                         [](const auto& set) { return std::string(set.param); });

std::vector<std::byte> RandomNumbers(size_t num_elements, DType dtype, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0, 100);
  std::vector<std::byte> bytes(num_elements * SizeOf(dtype));
  for (size_t i = 0; i < num_elements; ++i) {
    const float value = normal(random);
    const Bf16 rounded = ToBf16(value);
    if (dtype == DType::kF32) std::memcpy(&bytes[i * 4], &value, 4);
    if (dtype == DType::kBf16) std::memcpy(&bytes[i * 2], &rounded, 2);
    const F16 half = ToHalf(value * 100);  // sums overflow now and then
    if (dtype == DType::kF16) std::memcpy(&bytes[i * 2], &half, 2);
  }
  return bytes;
}

float At(const std::vector<std::byte>& bytes, size_t i, DType dtype) {
  if (dtype == DType::kF32) {
    float value = 0;
    std::memcpy(&value, &bytes[i * 4], 4);
    return value;
  }
  if (dtype == DType::kF16) {
    F16 half{};
    std::memcpy(&half, &bytes[i * 2], 2);
    return FromHalf(half);
  }
  Bf16 value{};
  std::memcpy(&value, &bytes[i * 2], 2);
  return FromBf16(value);
}

// Tails, odd addresses, both ways of writing: the bits of a plain loop.
TEST_P(ReduceTest, SumsInOrderAndRoundsOnce) {
  for (const DType dtype : {DType::kF32, DType::kBf16, DType::kF16}) {
    for (const size_t n : {0, 1, 15, 64, 2047, 2048, 5001}) {
      for (const bool has_partial : {false, true}) {
        std::vector<std::vector<std::byte>> sources;
        std::vector<const std::byte*> pointers;
        for (uint64_t rank = 0; rank < 5; ++rank)
          sources.push_back(RandomNumbers(n, dtype, 10 * n + rank));
        for (const auto& source : sources) pointers.push_back(source.data());
        const std::vector<std::byte> partial = RandomNumbers(n, DType::kF32, n);
        for (const Writes writes : {Writes::kThroughCaches, Writes::kPastCaches}) {
          std::vector<std::byte> to(n * SizeOf(dtype) + 1, std::byte{0x77});
          kernels_->sum(
              {.partial = has_partial ? reinterpret_cast<const float*>(partial.data()) : nullptr,
               .sources = pointers,
               .source_dtype = dtype,
               .to = to.data() + (n % 2),
               .to_dtype = dtype,
               .num_elements = n,
               .writes = writes});
          for (size_t i = 0; i < n; ++i) {
            float sum = has_partial ? At(partial, i, DType::kF32) : At(sources[0], i, dtype);
            for (size_t rank = has_partial ? 0 : 1; rank < 5; ++rank)
              sum += At(sources[rank], i, dtype);
            std::vector<std::byte> expected(SizeOf(dtype));
            const Bf16 rounded = ToBf16(sum);
            if (dtype == DType::kF32) std::memcpy(expected.data(), &sum, 4);
            const F16 half = ToHalf(sum);
            if (dtype == DType::kBf16) std::memcpy(expected.data(), &rounded, 2);
            if (dtype == DType::kF16) std::memcpy(expected.data(), &half, 2);
            ASSERT_EQ(std::memcmp(&to[n % 2 + i * SizeOf(dtype)], expected.data(), SizeOf(dtype)),
                      0)
                << "element " << i << " of " << n;
          }
          EXPECT_EQ(to[n % 2 == 0 ? n * SizeOf(dtype) : 0], std::byte{0x77});
        }
      }
    }
  }
}

TEST_P(ReduceTest, TheSumMayReplaceASourceAndInfinityAndNotANumberStay) {
  std::vector<float> a = {1, INFINITY, NAN, 3e38f};
  const std::vector<float> b = {2, 1, 1, 3e38f};
  const std::vector<const std::byte*> sources = {reinterpret_cast<const std::byte*>(a.data()),
                                                 reinterpret_cast<const std::byte*>(b.data())};
  kernels_->sum(
      {.sources = sources, .to = reinterpret_cast<std::byte*>(a.data()), .num_elements = a.size()});
  EXPECT_EQ(a[0], 3);
  EXPECT_EQ(a[1], INFINITY);
  EXPECT_TRUE(std::isnan(a[2]));
  EXPECT_EQ(a[3], INFINITY);
}

TEST_P(ReduceTest, CopiesEveryByteAndNoOther) {
  for (const size_t size : {0, 1, 63, 64, 65, 1000, 100'003}) {
    for (const size_t offset : {0, 1, 63}) {
      std::vector<std::byte> from = RandomNumbers(size / 4 + 1, DType::kF32, size);
      for (const Writes writes : {Writes::kThroughCaches, Writes::kPastCaches}) {
        std::vector<std::byte> to(offset + size + 1, std::byte{0x77});
        kernels_->copy(to.data() + offset, from.data(), size, writes);
        EXPECT_TRUE(std::equal(from.begin(), from.begin() + static_cast<ptrdiff_t>(size),
                               to.begin() + static_cast<ptrdiff_t>(offset)));
        EXPECT_EQ(to.back(), std::byte{0x77});
        if (offset > 0) {
          EXPECT_EQ(to[offset - 1], std::byte{0x77});
        }
      }
    }
  }
}

}  // namespace
}  // namespace strata::engine
