#include <algorithm>
#include <cmath>

#include "engine/kernels/rows/declarations.h"
#include "engine/kernels/rows/elements.h"
#include "engine/kernels/rows/functions.h"

namespace strata::engine::STRATA_ISA {
namespace {

// Exponentials are summed in fp32 over this many elements, then in fp64.
constexpr size_t kPiece = 1024;

double SumOfExp(const float* x, float maximum, size_t n) {
  double sum = 0;
  float exps[kPiece];
  for (size_t first = 0; first < n; first += kPiece) {
    const size_t count = std::min(kPiece, n - first);
    for (size_t i = 0; i < count; ++i) exps[i] = Exp(x[first + i] - maximum);
    for (size_t i = count; i % kLanes != 0; ++i) exps[i] = 0;
    Lanes lanes{};
    for (size_t i = 0; i < count; i += kLanes) lanes += LoadLanes(exps + i);
    sum += static_cast<double>(SumOf(lanes));
  }
  return sum;
}

template <typename G>
void GradientRow(const float* x, float maximum, float factor, G* dx, size_t n) {
#pragma GCC ivdep  // dx may be x
  for (size_t i = 0; i < n; ++i) dx[i] = FromFloat<G>(Exp(x[i] - maximum) * factor);
}

template <typename G>
double LossRow(const float* x, size_t n, int32_t target, float scale, G* dx) {
  if (target < 0) {
    std::fill_n(dx, n, FromFloat<G>(0.0f));
    return 0;
  }
  const float maximum = Maximum(x, n);
  const double sum = SumOfExp(x, maximum, n);
  const float shifted = x[target] - maximum;
  GradientRow(x, maximum, static_cast<float>(static_cast<double>(scale) / sum), dx, n);
  // Again from its parts, so that the target's gradient too is rounded once.
  const double probability = static_cast<double>(Exp(shifted)) / sum;
  dx[target] = FromFloat<G>(static_cast<float>((probability - 1.0) * static_cast<double>(scale)));
  return std::log(sum) - static_cast<double>(shifted);
}

}  // namespace

void CrossEntropyRows(const LossRows& in) {
  WithElementType(in.dlogits.dtype, [&]<typename G>(G) {
    for (size_t row = 0; row < in.logits.rows; ++row) {
      in.losses[row] = LossRow(RowOf<const float>(in.logits, row), in.logits.cols, in.targets[row],
                               in.gradient_scale, RowOf<G>(in.dlogits, row));
    }
  });
}

}  // namespace strata::engine::STRATA_ISA
