#include <algorithm>
#include <cstddef>
#include <limits>

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

SoftmaxRow Extended(const SoftmaxRow& row, Output output, const float* x, size_t n) {
  const float here = Maximum(x, n);
  if (output == Output::kOverwrite) {
    return {SumOfExp(x, here, n), here, std::numeric_limits<float>::quiet_NaN()};
  }
  const float maximum = here > row.maximum ? here : row.maximum;
  const double shrunk = row.sum * static_cast<double>(Exp(row.maximum - maximum));
  return {shrunk + SumOfExp(x, maximum, n), maximum, row.target};
}

// Where the row's target is among these columns, or `cols`.
size_t TargetHere(const LogitRows& in, size_t row) {
  const size_t target = static_cast<size_t>(in.targets[row]);
  const bool is_here = target >= in.first_column && target - in.first_column < in.logits.cols;
  return is_here ? target - in.first_column : in.logits.cols;
}

template <typename G>
void GradientOfRow(const float* x, const SoftmaxRow& row, float scale, size_t target, G* dx,
                   size_t n) {
  GradientRow(x, row.maximum, static_cast<float>(static_cast<double>(scale) / row.sum), dx, n);
  if (target == n) return;
  // Again from its parts, so that the target's gradient too is rounded once.
  const double probability = static_cast<double>(Exp(row.target - row.maximum)) / row.sum;
  dx[target] = FromFloat<G>(static_cast<float>((probability - 1.0) * static_cast<double>(scale)));
}

}  // namespace

void SoftmaxStatisticsRows(const LogitRows& in, Output output, SoftmaxRow* rows) {
  for (size_t row = 0; row < in.logits.rows; ++row) {
    if (in.targets[row] < 0) {
      rows[row] = {};
      continue;
    }
    const float* x = RowOf<const float>(in.logits, row);
    rows[row] = Extended(rows[row], output, x, in.logits.cols);
    const size_t target = TargetHere(in, row);
    if (target < in.logits.cols) rows[row].target = x[target];
  }
}

void CrossEntropyRows(const LogitRows& in, const SoftmaxRow* rows, float gradient_scale,
                      const Matrix& dlogits) {
  WithElementType(dlogits.dtype, [&]<typename G>(G) {
    for (size_t row = 0; row < in.logits.rows; ++row) {
      G* dx = RowOf<G>(dlogits, row);
      if (in.targets[row] < 0) {
        std::fill_n(dx, in.logits.cols, FromFloat<G>(0.0f));
        continue;
      }
      GradientOfRow(RowOf<const float>(in.logits, row), rows[row], gradient_scale,
                    TargetHere(in, row), dx, in.logits.cols);
    }
  });
}

}  // namespace strata::engine::STRATA_ISA
