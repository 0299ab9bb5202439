#include "engine/checkpoint/normal.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <numbers>

#include "engine/checkpoint/philox.h"

namespace strata::engine {
namespace {

constexpr uint64_t kPerCounter = 4;

// Horner's scheme, highest power first.
template <size_t kTerms>
constexpr double Polynomial(const std::array<double, kTerms>& coefficients, double x) {
  double sum = 0;
  for (double coefficient : coefficients) sum = sum * x + coefficient;
  return sum;
}

// Natural logarithm of a normal positive number: x = 2^e * m with m in [sqrt(1/2), sqrt(2)), and
// log(m) = 2 * atanh(s) with s = (m - 1) / (m + 1), |s| < 0.172; the series' next term is below
// 1e-15 of the first.
double Log(double x) {
  static constexpr std::array<double, 10> kAtanh = {1. / 19, 1. / 17, 1. / 15, 1. / 13, 1. / 11,
                                                    1. / 9,  1. / 7,  1. / 5,  1. / 3,  1.};
  uint64_t bits = std::bit_cast<uint64_t>(x);
  int exponent = static_cast<int>(bits >> 52) - 1023;
  double m = std::bit_cast<double>((bits & 0x000fffffffffffff) | 0x3ff0000000000000);
  if (m > std::numbers::sqrt2) {
    m *= 0.5;
    ++exponent;
  }
  double s = (m - 1) / (m + 1);
  return exponent * std::numbers::ln2 + 2 * s * Polynomial(kAtanh, s * s);
}

struct Point {
  double cosine;
  double sine;
};

// Of the angle turn / 2^32 * 2 pi: a quarter turn is split off in integers, the rest, at most
// pi / 4, goes into the Taylor series, whose next term is below 1e-16.
Point OnUnitCircle(uint32_t turn) {
  static constexpr std::array<double, 8> kSine = {
      -1. / 1307674368000, 1. / 6227020800, -1. / 39916800, 1. / 362880,
      -1. / 5040,          1. / 120,        -1. / 6,        1.};
  static constexpr std::array<double, 9> kCosine = {1. / 20922789888000,
                                                    -1. / 87178291200,
                                                    1. / 479001600,
                                                    -1. / 3628800,
                                                    1. / 40320,
                                                    -1. / 720,
                                                    1. / 24,
                                                    -1. / 2,
                                                    1.};
  uint32_t quarter = (turn + (1u << 29)) >> 30;
  int32_t rest = static_cast<int32_t>(turn - (quarter << 30));
  double angle = rest * (std::numbers::pi * 0x1p-31);
  double sine = angle * Polynomial(kSine, angle * angle);
  double cosine = Polynomial(kCosine, angle * angle);
  switch (quarter) {
    case 1:
      return {-sine, cosine};
    case 2:
      return {-cosine, -sine};
    case 3:
      return {sine, -cosine};
    default:
      return {cosine, sine};
  }
}

// Box & Muller (1958): two uniform numbers make two normal ones.
void BoxMuller(uint32_t uniform, uint32_t turn, double scale, float* out) {
  double radius = scale * std::sqrt(-2 * Log((uniform + 1.0) * 0x1p-32));
  Point point = OnUnitCircle(turn);
  out[0] = static_cast<float>(radius * point.cosine);
  out[1] = static_cast<float>(radius * point.sine);
}

std::array<float, kPerCounter> Block(const NormalSequence& sequence, uint64_t index) {
  PhiloxCounter uniform = Philox4x32(
      {static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32),
       static_cast<uint32_t>(sequence.stream), static_cast<uint32_t>(sequence.stream >> 32)},
      {static_cast<uint32_t>(sequence.seed), static_cast<uint32_t>(sequence.seed >> 32)});
  std::array<float, kPerCounter> block;
  BoxMuller(uniform[0], uniform[1], sequence.standard_deviation, &block[0]);
  BoxMuller(uniform[2], uniform[3], sequence.standard_deviation, &block[2]);
  return block;
}

}  // namespace

void FillNormal(const NormalSequence& sequence, uint64_t first, std::span<float> out) {
  size_t done = 0;
  while (done < out.size()) {
    std::array<float, kPerCounter> block = Block(sequence, (first + done) / kPerCounter);
    size_t skip = (first + done) % kPerCounter;
    size_t count = std::min<size_t>(kPerCounter - skip, out.size() - done);
    std::copy_n(block.data() + skip, count, out.data() + done);
    done += count;
  }
}

}  // namespace strata::engine
