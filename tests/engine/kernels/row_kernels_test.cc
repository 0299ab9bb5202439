// Everything but products and attention, against plain loops in double and finite differences.
#include <array>

#include "tests/engine/kernels/kernels_rig.h"
#include "tests/engine/kernels/kernels_testing.h"

namespace strata::engine {
namespace {

constexpr float kEps = 1e-5f;

class RowKernelsTest : public WithTestKernels<testing::TestWithParam<DType>> {
 protected:
  TestMatrix RandomHere(uint32_t seed, size_t rows, size_t cols, double deviation = 1) const {
    return Random(seed, GetParam(), rows, cols, seed % 4, deviation);
  }
  double tolerance() const { return Tolerance(GetParam()); }
};

struct Size {
  size_t rows, cols;
};
constexpr std::array<Size, 5> kSizes = {{{1, 1}, {3, 15}, {7, 16}, {70, 333}, {1, 40'000}}};

TEST_P(RowKernelsTest, RmsNormForwardEqualsItsDefinition) {
  for (const auto& [rows, cols] : kSizes) {
    const TestMatrix x = RandomHere(1, rows, cols, 3), weight = RandomHere(2, 1, cols);
    const TestMatrix y = Poisoned(GetParam(), rows, cols, 2);
    ExpectOk(kernels_->RmsNormForward(kStream, x, weight.view().data, kEps, y));
    Reference expected;
    for (size_t row = 0; row < rows; ++row) {
      double squares = 0;
      for (size_t col = 0; col < cols; ++col) squares += x.Get(row, col) * x.Get(row, col);
      const double rms = std::sqrt(squares / static_cast<double>(cols) + double{kEps});
      for (size_t col = 0; col < cols; ++col) {
        expected.push_back(x.Get(row, col) / rms * weight.Get(0, col));
      }
    }
    EXPECT_LT(RelativeError(y, expected), tolerance()) << rows << "x" << cols;
  }
}

struct NormGradients {
  Reference dx, weight;
};

NormGradients PlainRmsNormBackward(const TestMatrix& x, const TestMatrix& weight,
                                   const TestMatrix& dy) {
  const size_t cols = x.cols();
  NormGradients gradients{{}, Reference(cols)};
  for (size_t row = 0; row < x.rows(); ++row) {
    double squares = 0, projection = 0;
    for (size_t col = 0; col < cols; ++col) {
      squares += x.Get(row, col) * x.Get(row, col);
      projection += dy.Get(row, col) * weight.Get(0, col) * x.Get(row, col);
    }
    const double inverse = 1 / std::sqrt(squares / static_cast<double>(cols) + double{kEps});
    projection *= inverse * inverse / static_cast<double>(cols);
    for (size_t col = 0; col < cols; ++col) {
      gradients.dx.push_back(
          inverse * (dy.Get(row, col) * weight.Get(0, col) - x.Get(row, col) * projection));
      gradients.weight[col] += dy.Get(row, col) * x.Get(row, col) * inverse;
    }
  }
  return gradients;
}

TEST_P(RowKernelsTest, RmsNormBackwardAddsTheGradientsToWhatIsThere) {
  // More rows than are handled at once (1024), and sizes around a vector.
  for (const auto& [rows, cols] : {Size{2, 5}, Size{70, 333}, Size{1100, 48}}) {
    const TestMatrix x = RandomHere(1, rows, cols, 3), dy = RandomHere(3, rows, cols);
    const TestMatrix weight = RandomHere(2, 1, cols);
    NormGradients expected = PlainRmsNormBackward(x, weight, dy);
    for (const DType dx_dtype : {DType::kF32, GetParam()}) {
      const TestMatrix dx = Filled(dx_dtype, rows, cols, 0.25, 1);
      const TestMatrix weight_gradient = Filled(DType::kF32, 1, cols, 0.5);
      ExpectOk(kernels_->RmsNormBackward(kStream, x, weight.view().data, kEps, dy, dx,
                                         weight_gradient.floats(), {}));
      Reference dx_expected = expected.dx, weight_expected = expected.weight;
      for (double& value : dx_expected) value += 0.25;
      for (double& value : weight_expected) value += 0.5;
      EXPECT_LT(RelativeError(dx, dx_expected), Tolerance(dx_dtype));
      EXPECT_LT(RelativeError(weight_gradient, weight_expected), 3e-6);
    }
  }
}

TEST_P(RowKernelsTest, RopeRotatesPairsByPositionTimesFrequencyAndIsUndone) {
  constexpr size_t kHeadDim = 26, kSeqLen = 300, kHeads = 3;
  std::vector<float> frequency;
  for (size_t i = 0; i < kHeadDim / 2; ++i) {
    frequency.push_back(
        static_cast<float>(std::pow(500000.0, -2.0 * static_cast<double>(i) / kHeadDim)));
  }
  const TestMatrix before = RandomHere(1, 2 * kSeqLen, kHeads * kHeadDim);
  TestMatrix x = before;
  const float factor = 1.25f;
  ExpectOk(kernels_->Rope(kStream, x, kSeqLen, kHeadDim, frequency, factor, 1));
  Reference expected(x.rows() * x.cols());
  for (size_t row = 0; row < x.rows(); ++row) {
    for (size_t head = 0; head < kHeads; ++head) {
      for (size_t i = 0; i < kHeadDim / 2; ++i) {
        // The angle is rounded to fp32, as Hugging Face does.
        const double angle = static_cast<double>(static_cast<float>(row % kSeqLen) * frequency[i]);
        const size_t low = head * kHeadDim + i, high = low + kHeadDim / 2;
        const double a = before.Get(row, low), b = before.Get(row, high);
        expected[row * x.cols() + low] = 1.25 * (a * std::cos(angle) - b * std::sin(angle));
        expected[row * x.cols() + high] = 1.25 * (b * std::cos(angle) + a * std::sin(angle));
      }
    }
  }
  EXPECT_LT(RelativeError(x, expected), tolerance());
  ExpectOk(kernels_->Rope(kStream, x, kSeqLen, kHeadDim, frequency, 1 / factor, -1));
  EXPECT_LT(RelativeError(x, ValuesOf(before)), 2 * tolerance());
}

TEST_P(RowKernelsTest, RopeIsExactToFp32AtLongPositionsAndForWideHeads) {
  constexpr size_t kHeadDim = 256;
  const std::vector<float> frequency(kHeadDim / 2, 1.0f);
  constexpr size_t kSeqLen = 131'072, kRow = kSeqLen - 1;
  TestMatrix x = Filled(DType::kF32, kSeqLen, 2, 0);
  for (size_t row = 0; row < kSeqLen; ++row) x.Set(row, 0, 1);
  ExpectOk(kernels_->Rope(kStream, x, kSeqLen, 2, std::span(frequency).first(1), 1, 1));
  for (size_t row = 0; row < kSeqLen; row += 997) {
    EXPECT_NEAR(x.Get(row, 0), std::cos(static_cast<double>(row)), 6e-8);
    EXPECT_NEAR(x.Get(row, 1), std::sin(static_cast<double>(row)), 6e-8);
  }
  EXPECT_NEAR(x.Get(kRow, 1), std::sin(static_cast<double>(kRow)), 6e-8);
  TestMatrix wide = Filled(DType::kF32, 2, kHeadDim, 1);
  ExpectOk(kernels_->Rope(kStream, wide, 2, kHeadDim, frequency, 1, 1));
  EXPECT_NEAR(wide.Get(1, kHeadDim / 2 - 1), std::cos(1.0) - std::sin(1.0), 1e-7);
}

TEST_P(RowKernelsTest, SwiGluEqualsItsDefinitionAndItsDerivative) {
  for (const auto& [rows, cols] : kSizes) {
    const TestMatrix gate = RandomHere(1, rows, cols, 4), up = RandomHere(2, rows, cols);
    const TestMatrix dout = RandomHere(3, rows, cols);
    const TestMatrix out = Poisoned(GetParam(), rows, cols, 1);
    TestMatrix dgate = gate, dup = up;
    ExpectOk(kernels_->SwiGluForward(kStream, gate, up, out));
    ExpectOk(kernels_->SwiGluBackward(kStream, dgate, dup, dout, dgate, dup));  // in place
    Reference expected, dgate_expected, dup_expected;
    for (size_t i = 0; i < rows * cols; ++i) {
      const double g = gate.Get(i / cols, i % cols), u = up.Get(i / cols, i % cols);
      const double d = dout.Get(i / cols, i % cols);
      const double sigmoid = 1 / (1 + std::exp(-g));
      expected.push_back(g * sigmoid * u);
      dgate_expected.push_back(d * u * sigmoid * (1 + g * (1 - sigmoid)));
      dup_expected.push_back(d * g * sigmoid);
    }
    EXPECT_LT(RelativeError(out, expected), tolerance());
    EXPECT_LT(RelativeError(dgate, dgate_expected), tolerance());
    EXPECT_LT(RelativeError(dup, dup_expected), tolerance());
  }
}

TEST_P(RowKernelsTest, CrossEntropyEqualsItsDefinitionAndSkipsNegativeTargets) {
  constexpr size_t kRows = 1030, kVocab = 1309;  // beyond what is handled at once, twice
  const TestMatrix logits = Random(1, DType::kF32, kRows, kVocab, 3, 5);
  std::vector<int32_t> targets(kRows);
  for (size_t row = 0; row < kRows; ++row) {
    targets[row] = row % 5 == 1 ? -100 : static_cast<int32_t>(row * 7 % kVocab);
  }
  const TestMatrix dlogits = Poisoned(GetParam(), kRows, kVocab);
  double loss = 3;
  CrossEntropyOf(*kernels_, logits, targets, 0.5f, dlogits, &loss);
  double loss_expected = 3;
  Reference expected(kRows * kVocab);
  for (size_t row = 0; row < kRows; ++row) {
    if (targets[row] < 0) continue;
    double sum = 0;
    for (size_t col = 0; col < kVocab; ++col) sum += std::exp(logits.Get(row, col));
    for (size_t col = 0; col < kVocab; ++col) {
      expected[row * kVocab + col] = 0.5 * std::exp(logits.Get(row, col)) / sum;
    }
    const auto target = static_cast<size_t>(targets[row]);
    expected[row * kVocab + target] -= 0.5;
    loss_expected += std::log(sum) - logits.Get(row, target);
  }
  EXPECT_NEAR(loss / loss_expected, 1, 1e-7);
  EXPECT_LT(RelativeError(dlogits, expected), tolerance());
  for (size_t col = 0; col < kVocab; ++col) ASSERT_EQ(dlogits.Get(1, col), 0);
}

TEST_P(RowKernelsTest, CrossEntropyKeepsExtremesFiniteAndShowsNotANumber) {
  TestMatrix logits = Filled(DType::kF32, 3, 20, 0);
  logits.Set(0, 3, 3e38);
  logits.Set(1, 3, -3e38);
  const std::array<int32_t, 3> targets = {3, 4, 5};
  double loss = 0;
  CrossEntropyOf(*kernels_, logits, targets, 1, logits, &loss);  // in place
  EXPECT_NEAR(loss, std::log(19.0) + std::log(20.0), 1e-6);
  EXPECT_EQ(logits.Get(0, 3), 0);
  EXPECT_EQ(logits.Get(1, 3), 0);
  logits.Set(2, 0, std::numeric_limits<double>::quiet_NaN());
  CrossEntropyOf(*kernels_, logits, targets, 1, logits, &loss);
  EXPECT_TRUE(std::isnan(loss));
}

// Large vocabularies are seen piece by piece. The sums of all ways to cut differ by their rounding.
TEST_P(RowKernelsTest, CrossEntropyInPiecesIsThatOfTheWhole) {
  constexpr size_t kRows = 7;
  struct Case {
    size_t vocab, step;
    std::array<int32_t, kRows> targets;
  };
  for (const auto& [vocab, step, targets] : {Case{3000, 1000, {0, 999, 1000, -1, 2999, 1, 1700}},
                                             Case{3000, 1700, {0, 999, 1000, -1, 2999, 1, 1700}},
                                             Case{30, 1, {0, 9, 10, -1, 29, 1, 17}}}) {
    const TestMatrix logits = Random(1, DType::kF32, kRows, vocab, 0, 5);
    const TestMatrix whole = Poisoned(GetParam(), kRows, vocab);
    double whole_loss = 0;
    CrossEntropyOf(*kernels_, logits, targets, 0.5f, whole, &whole_loss);
    std::vector<SoftmaxRow> rows(kRows);
    const auto columns = [&, vocab = vocab, step = step](const Matrix& matrix, size_t first) {
      Matrix piece = matrix;
      piece.data += first * SizeOf(matrix.dtype);
      piece.cols = std::min(step, vocab - first);
      return piece;
    };
    for (size_t first = 0; first < vocab; first += step) {
      const Output output = first == 0 ? Output::kOverwrite : Output::kAccumulate;
      ExpectOk(kernels_->SoftmaxStatistics(kStream, columns(logits, first), targets, first, output,
                                           rows));
    }
    const TestMatrix dlogits = Poisoned(GetParam(), kRows, vocab);
    for (size_t first = 0; first < vocab; first += step) {
      ExpectOk(kernels_->CrossEntropy(kStream, columns(logits, first), targets, first, rows, 0.5f,
                                      columns(dlogits, first)));
    }
    double loss = 0;
    ExpectOk(kernels_->CrossEntropyLoss(kStream, targets, rows, &loss));
    EXPECT_NEAR(loss / whole_loss, 1, 1e-7) << step;
    EXPECT_LT(RelativeError(dlogits, ValuesOf(whole)), std::max(1e-6, tolerance())) << step;
  }
}

// A row whose target no piece held, by some error, must not pass for a loss.
TEST_P(RowKernelsTest, ATargetBeyondTheVocabularyShowsInTheLoss) {
  const TestMatrix logits = Random(1, DType::kF32, 1, 20);
  const std::array<int32_t, 1> targets = {20};
  double loss = 0;
  CrossEntropyOf(*kernels_, logits, targets, 1, Poisoned(GetParam(), 1, 20), &loss);
  EXPECT_TRUE(std::isnan(loss));
}

TEST_P(RowKernelsTest, TheEmbeddingInPiecesIsThatOfTheWhole) {
  constexpr size_t kCols = 300;
  const TestMatrix table = RandomHere(1, 11, kCols);
  const std::array<int32_t, 6> ids = {3, 0, 3, 10, 4, 1};
  const TestMatrix whole = Poisoned(GetParam(), ids.size(), kCols);
  const TestMatrix pieces = Poisoned(GetParam(), ids.size(), kCols);
  const TestMatrix gradient = Filled(DType::kF32, 11, kCols, 2);
  const TestMatrix gradient_pieces = Filled(DType::kF32, 11, kCols, 2);
  ExpectOk(kernels_->EmbeddingForward(kStream, table, 0, ids, whole));
  ExpectOk(kernels_->EmbeddingBackward(kStream, ids, whole, 0, gradient));
  for (const auto& [first, count] : {std::pair(0u, 4u), std::pair(4u, 4u), std::pair(8u, 3u)}) {
    const auto rows = [&, first = first, count = count](const Matrix& matrix) {
      Matrix piece = matrix;
      piece.data += first * matrix.stride * SizeOf(matrix.dtype);
      piece.rows = count;
      return piece;
    };
    ExpectOk(kernels_->EmbeddingForward(kStream, rows(table), first, ids, pieces));
    ExpectOk(kernels_->EmbeddingBackward(kStream, ids, whole, first, rows(gradient_pieces)));
  }
  EXPECT_TRUE(pieces.SameBits(whole));
  EXPECT_TRUE(gradient_pieces.SameBits(gradient));
}

TEST_P(RowKernelsTest, EmbeddingForwardCopiesRowsAndBackwardAddsThem) {
  constexpr size_t kCols = 300;
  const TestMatrix table = RandomHere(1, 11, kCols);
  const std::array<int32_t, 6> ids = {3, 0, 3, 10, 3, 1};
  const TestMatrix out = Poisoned(GetParam(), ids.size(), kCols, 2);
  ExpectOk(kernels_->EmbeddingForward(kStream, table, 0, ids, out));
  const TestMatrix gradient = Filled(DType::kF32, 11, kCols, 2);
  Reference expected(11 * kCols, 2);
  ExpectOk(kernels_->EmbeddingBackward(kStream, ids, out, 0, gradient));
  for (size_t row = 0; row < ids.size(); ++row) {
    const auto id = static_cast<size_t>(ids[row]);
    for (size_t col = 0; col < kCols; ++col) {
      ASSERT_EQ(out.Get(row, col), table.Get(id, col));
      expected[id * kCols + col] += out.Get(row, col);
    }
  }
  EXPECT_LT(RelativeError(gradient, expected), 1e-6);
}

TEST_P(RowKernelsTest, AddCastAndZeroDoWhatTheySay) {
  for (const auto& [rows, cols] : kSizes) {
    const TestMatrix b = RandomHere(2, rows, cols);
    TestMatrix a = RandomHere(1, rows, cols);
    Reference expected;
    for (size_t i = 0; i < rows * cols; ++i) {
      expected.push_back(a.Get(i / cols, i % cols) + b.Get(i / cols, i % cols));
    }
    ExpectOk(kernels_->Add(kStream, a, b, a));  // in place
    EXPECT_LT(RelativeError(a, expected), tolerance());
    const TestMatrix wide = Poisoned(DType::kF32, rows, cols);
    ExpectOk(kernels_->Cast(kStream, a, wide));
    EXPECT_EQ(ValuesOf(wide), ValuesOf(a));
    ExpectOk(kernels_->Zero(kStream, {wide.view().data, wide.view().size_bytes()}));
    EXPECT_EQ(ValuesOf(wide), Reference(rows * cols));
  }
}

TEST_P(RowKernelsTest, NoRowsAreFine) {
  const TestMatrix none(GetParam(), 0, 8), logits(DType::kF32, 0, 8), weight(GetParam(), 1, 8);
  double loss = 0;
  ExpectOk(kernels_->RmsNormForward(kStream, none, weight.view().data, kEps, none));
  ExpectOk(kernels_->SwiGluForward(kStream, none, none, none));
  CrossEntropyOf(*kernels_, logits, {}, 1, logits, &loss);
  ExpectOk(kernels_->Add(kStream, none, none, none));
  EXPECT_EQ(loss, 0);
}

INSTANTIATE_TEST_SUITE_P(Precision, RowKernelsTest,
                         testing::Values(DType::kF32, DType::kBf16, DType::kF16),
                         [](const auto& tested) { return NameOf(tested.param); });

// silu(g) = g * sigmoid(g) shows the accuracy of our exp wherever it is used: swept over fp32.
using SwiGluTest = WithTestKernels<testing::Test>;

TEST_F(SwiGluTest, SiluIsWithinAFewUnitsInTheLastPlaceOverItsRange) {
  constexpr size_t kCount = 200'001;
  const TestMatrix gate(DType::kF32, 1, kCount);
  const TestMatrix out = Poisoned(DType::kF32, 1, kCount);
  for (size_t i = 0; i < kCount; ++i) {
    gate.floats()[i] = -87.0f + 174.0f * static_cast<float>(i) / static_cast<float>(kCount - 1);
  }
  const TestMatrix ones = Filled(DType::kF32, 1, kCount, 1);
  ExpectOk(kernels_->SwiGluForward(kStream, gate, ones, out));
  for (size_t i = 0; i < kCount; ++i) {
    const double g = gate.Get(0, i), expected = g / (1 + std::exp(-g));
    ASSERT_NEAR(out.Get(0, i), expected, 3e-7 * std::abs(expected) + 1e-37) << g;
  }
}

using GradientTest = WithTestKernels<testing::Test>;

TEST_F(GradientTest, RmsNormBackwardIsTheDerivativeOfForward) {
  TestMatrix x = Random(1, DType::kF32, 3, 17), weight = Random(2, DType::kF32, 1, 17);
  const TestMatrix dy = Random(3, DType::kF32, 3, 17), y(DType::kF32, 3, 17);
  const TestMatrix dx = Filled(DType::kF32, 3, 17, 0), dweight = Filled(DType::kF32, 1, 17, 0);
  ExpectOk(kernels_->RmsNormBackward(kStream, x, weight.view().data, kEps, dy, dx, dweight.floats(),
                                     {}));
  const auto loss = [&] {
    ExpectOk(kernels_->RmsNormForward(kStream, x, weight.view().data, kEps, y));
    return Dot(y, dy);
  };
  for (size_t col = 0; col < 17; ++col) {
    EXPECT_NEAR(FiniteDifference(x, 1, col, loss), dx.Get(1, col), 1e-3);
    EXPECT_NEAR(FiniteDifference(weight, 0, col, loss), dweight.Get(0, col), 1e-3);
  }
}

TEST_F(GradientTest, SwiGluBackwardIsTheDerivativeOfForward) {
  TestMatrix gate = Random(1, DType::kF32, 2, 20), up = Random(2, DType::kF32, 2, 20);
  const TestMatrix dout = Random(3, DType::kF32, 2, 20), out(DType::kF32, 2, 20);
  const TestMatrix dgate(DType::kF32, 2, 20), dup(DType::kF32, 2, 20);
  ExpectOk(kernels_->SwiGluBackward(kStream, gate, up, dout, dgate, dup));
  const auto loss = [&] {
    ExpectOk(kernels_->SwiGluForward(kStream, gate, up, out));
    return Dot(out, dout);
  };
  for (size_t col = 0; col < 20; ++col) {
    EXPECT_NEAR(FiniteDifference(gate, 1, col, loss), dgate.Get(1, col), 1e-3);
    EXPECT_NEAR(FiniteDifference(up, 0, col, loss), dup.Get(0, col), 1e-3);
  }
}

TEST_F(GradientTest, RopeBackwardIsTheDerivativeOfForward) {
  const std::array<float, 3> frequency = {1.0f, 0.3f, 0.01f};
  TestMatrix x = Random(1, DType::kF32, 4, 12);
  const TestMatrix dy = Random(2, DType::kF32, 4, 12);
  const TestMatrix dx = dy;
  ExpectOk(kernels_->Rope(kStream, dx, 4, 6, frequency, 1, -1));
  const auto loss = [&] {
    const TestMatrix y = x;
    ExpectOk(kernels_->Rope(kStream, y, 4, 6, frequency, 1, 1));
    return Dot(y, dy);
  };
  for (size_t col = 0; col < 12; ++col) {
    EXPECT_NEAR(FiniteDifference(x, 3, col, loss), dx.Get(3, col), 1e-3);
  }
}

TEST_F(GradientTest, CrossEntropyGradientIsTheDerivativeOfTheLoss) {
  TestMatrix logits = Random(1, DType::kF32, 2, 21);
  const TestMatrix dlogits(DType::kF32, 2, 21);
  const std::array<int32_t, 2> targets = {20, 3};
  const auto loss = [&] {
    double sum = 0;
    CrossEntropyOf(*kernels_, logits, targets, 2, dlogits, &sum);
    return 2 * sum;
  };
  for (size_t col = 0; col < 21; ++col) {
    const double expected = FiniteDifference(logits, 1, col, loss);
    loss();
    EXPECT_NEAR(expected, dlogits.Get(1, col), 1e-3);
  }
}

}  // namespace
}  // namespace strata::engine
