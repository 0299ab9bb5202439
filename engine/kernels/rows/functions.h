// exp, sine and cosine as plain arithmetic: they vectorise, and give the same bits on every
// instruction set, which the C library's do not promise.
#pragma once

#include <bit>
#include <cstdint>

namespace strata::engine {
namespace {

// 2^k for -127 < k < 128.
constexpr float PowerOfTwo(int32_t k) {
  return std::bit_cast<float>(static_cast<uint32_t>(k + 127) << 23);
}

// e^x with an error below 2 units in the last place (1 denormal unit where the result is
// denormal); 0 below -104, infinity above 89; NaN stays NaN. x = n ln 2 + r, |r| <= ln 2 / 2, with
// ln 2 in two parts, and Cephes' polynomial for e^r.
constexpr float Exp(float x) {
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it leaves the nearest integer
  x = x < -104.0f ? -104.0f : x;
  x = x > 89.0f ? 89.0f : x;
  const float shifted = x * 1.44269504088896341f + kRound;
  const float n = shifted - kRound;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const float e = (p * (r * r) + r) + 1.0f;
  const int32_t k =
      static_cast<int32_t>(std::bit_cast<uint32_t>(shifted) - std::bit_cast<uint32_t>(kRound));
  const int32_t half = k >> 1;  // in two steps, so that results may be denormal
  return (e * PowerOfTwo(half)) * PowerOfTwo(k - half);
}

constexpr float Sigmoid(float x) { return 1.0f / (1.0f + Exp(-x)); }

struct SinCos {
  double sine;
  double cosine;
};

// Of |angle| < 2^20, to about 1e-15. angle = n pi/2 + r with pi/2 in two parts, the first of 33
// bits so that n times it is exact; fdlibm's polynomials for |r| <= pi/4.
constexpr SinCos SineAndCosine(double angle) {
  constexpr double kRound = 6755399441055744.0;  // 1.5 * 2^52
  const double shifted = angle * 0.63661977236758134308 + kRound;
  const double n = shifted - kRound;
  const double r = (angle - n * 1.57079632673412561417e+00) - n * 6.07710050650619224932e-11;
  const double z = r * r;
  double s = 1.58969099521155010221e-10;
  s = s * z - 2.50507602534068634195e-08;
  s = s * z + 2.75573137070700676789e-06;
  s = s * z - 1.98412698298579493134e-04;
  s = s * z + 8.33333333332248946124e-03;
  s = s * z - 1.66666666666666324348e-01;
  s = r + r * z * s;
  double c = -1.13596475577881948265e-11;
  c = c * z + 2.08757232129817482790e-09;
  c = c * z - 2.75573143513906633035e-07;
  c = c * z + 2.48015872894767294178e-05;
  c = c * z - 1.38888888888741095749e-03;
  c = c * z + 4.16666666666666019037e-02;
  c = 1.0 - 0.5 * z + z * z * c;
  const uint64_t quadrant = std::bit_cast<uint64_t>(shifted);
  const uint64_t odd = 0 - (quadrant & 1);
  const uint64_t swap = (std::bit_cast<uint64_t>(s) ^ std::bit_cast<uint64_t>(c)) & odd;
  const uint64_t sine_sign = (quadrant & 2) << 62;
  const uint64_t cosine_sign = ((quadrant + 1) & 2) << 62;
  return {std::bit_cast<double>((std::bit_cast<uint64_t>(s) ^ swap) ^ sine_sign),
          std::bit_cast<double>((std::bit_cast<uint64_t>(c) ^ swap) ^ cosine_sign)};
}

}  // namespace
}  // namespace strata::engine
