#include <array>
#include <limits>

#include "tests/engine/kernels/kernels_rig.h"
#include "tests/engine/kernels/matmul_testing.h"

namespace strata::engine {
namespace {

// Odd sizes, single rows and columns, sizes beyond one tile in either direction.
constexpr std::array<Case, 8> kCases = {{{1, 1, 1},
                                         {1, 300, 17},
                                         {45, 1, 33},
                                         {31, 29, 1},
                                         {64, 64, 64},
                                         {17, 600, 40},
                                         {300, 33, 65},
                                         {531, 530, 19}}};

class MatMulTest : public WithTestKernels<testing::TestWithParam<DType>> {
 protected:
  void Multiply(const Matrix& a, Transpose transpose_a, const Matrix& b, Transpose transpose_b,
                const Matrix& out, Output output) {
    ExpectOk(kernels_->MatMul(kStream, a, transpose_a, b, transpose_b, out, output, {}));
  }
};

TEST_P(MatMulTest, EqualsAPlainLoopElementByElementForOddShapesStridesAndBothTransposes) {
  for (const Case& size : kCases) {
    for (const Transpose ta : kTransposes) {
      for (const Transpose tb : kTransposes) {
        const TestMatrix a = Operand(1, GetParam(), ta, size.rows, size.depth);
        const TestMatrix b = Operand(2, GetParam(), tb, size.depth, size.cols);
        for (const DType out_dtype : {DType::kF32, GetParam()}) {
          const TestMatrix out = Poisoned(out_dtype, size.rows, size.cols, 5);
          Multiply(a, ta, b, tb, out, Output::kOverwrite);
          SCOPED_TRACE(testing::Message() << size.rows << "x" << size.cols << "x" << size.depth);
          ExpectWithin(out, engine::Multiply(a, ta, b, tb, size, out_dtype), "product");
        }
      }
    }
  }
}

TEST_P(MatMulTest, AccumulateAddsToWhatIsThere) {
  const Case size{150, 290, 31};
  const TestMatrix a = Random(1, GetParam(), size.rows, size.depth);
  const TestMatrix b = Random(2, GetParam(), size.depth, size.cols);
  const TestMatrix out = Random(3, DType::kF32, size.rows, size.cols, 3);
  Bounded expected = engine::Multiply(a, Transpose::kNo, b, Transpose::kNo, size, DType::kF32);
  const Reference before = ValuesOf(out);
  for (size_t i = 0; i < before.size(); ++i) {
    expected.values[i] += before[i];
    expected.bounds[i] += std::abs(before[i]) * static_cast<double>(size.depth) * kSumError;
  }
  Multiply(a, Transpose::kNo, b, Transpose::kNo, out, Output::kAccumulate);
  ExpectWithin(out, expected, "sum");
}

TEST_P(MatMulTest, LeavesWhatIsBetweenTheRowsAlone) {
  const TestMatrix a = Random(1, GetParam(), 20, 30), b = Random(2, GetParam(), 30, 40);
  TestMatrix wide = Filled(GetParam(), 20, 48, 7);
  Matrix out = wide;
  out.cols = 40;
  Multiply(a, Transpose::kNo, b, Transpose::kNo, out, Output::kOverwrite);
  for (size_t row = 0; row < 20; ++row) {
    for (size_t col = 40; col < 48; ++col) EXPECT_EQ(wide.Get(row, col), 7);
  }
}

TEST_P(MatMulTest, NotANumberReachesItsRowAndOnlyThat) {
  TestMatrix a = Random(1, GetParam(), 9, 12);
  a.Set(4, 3, std::numeric_limits<double>::quiet_NaN());
  const TestMatrix b = Random(2, GetParam(), 12, 8);
  const TestMatrix out(DType::kF32, 9, 8);
  Multiply(a, Transpose::kNo, b, Transpose::kNo, out, Output::kOverwrite);
  for (size_t row = 0; row < 9; ++row) {
    for (size_t col = 0; col < 8; ++col) EXPECT_EQ(std::isnan(out.Get(row, col)), row == 4);
  }
}

TEST_P(MatMulTest, RepeatedProductsHaveTheSameBits) {
  const TestMatrix a = Random(1, GetParam(), 70, 200), b = Random(2, GetParam(), 90, 200);
  const TestMatrix first = Poisoned(GetParam(), 70, 90), second = Poisoned(GetParam(), 70, 90);
  for (const Matrix& out : {first.view(), second.view()})
    Multiply(a, Transpose::kNo, b, Transpose::kYes, out, Output::kOverwrite);
  EXPECT_TRUE(first.SameBits(second));
}

INSTANTIATE_TEST_SUITE_P(Precision, MatMulTest,
                         testing::Values(DType::kF32, DType::kBf16, DType::kF16),
                         [](const auto& tested) { return NameOf(tested.param); });

}  // namespace
}  // namespace strata::engine
