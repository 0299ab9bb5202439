#include <array>

#include "tests/engine/kernels/kernels_testing.h"

namespace strata::engine {
namespace {

struct Case {
  size_t rows, cols, depth;
};

double Element(const TestMatrix& matrix, Transpose transpose, size_t row, size_t col) {
  return transpose == Transpose::kNo ? matrix.Get(row, col) : matrix.Get(col, row);
}

Reference Multiply(const TestMatrix& a, Transpose transpose_a, const TestMatrix& b,
                   Transpose transpose_b, Case size) {
  Reference product(size.rows * size.cols);
  for (size_t i = 0; i < size.rows; ++i) {
    for (size_t j = 0; j < size.cols; ++j) {
      for (size_t k = 0; k < size.depth; ++k) {
        product[i * size.cols + j] += Element(a, transpose_a, i, k) * Element(b, transpose_b, k, j);
      }
    }
  }
  return product;
}

TestMatrix Operand(uint32_t seed, DType dtype, Transpose transpose, size_t rows, size_t cols) {
  if (transpose == Transpose::kYes) std::swap(rows, cols);
  return Random(seed, dtype, rows, cols, seed % 3);
}

constexpr std::array kTransposes = {Transpose::kNo, Transpose::kYes};
// Odd sizes, single rows and columns, sizes beyond one tile in either direction.
constexpr std::array<Case, 8> kCases = {{{1, 1, 1},
                                         {1, 300, 17},
                                         {45, 1, 33},
                                         {31, 29, 1},
                                         {64, 64, 64},
                                         {17, 600, 40},
                                         {300, 33, 65},
                                         {531, 530, 19}}};

class MatMulTest : public testing::TestWithParam<DType> {
 protected:
  std::unique_ptr<Kernels> kernels_ = MakeCpuKernels(2).value();
};

TEST_P(MatMulTest, EqualsAPlainLoopForOddShapesStridesAndBothTransposes) {
  for (const Case& size : kCases) {
    for (const Transpose ta : kTransposes) {
      for (const Transpose tb : kTransposes) {
        const TestMatrix a = Operand(1, GetParam(), ta, size.rows, size.depth);
        const TestMatrix b = Operand(2, GetParam(), tb, size.depth, size.cols);
        const Reference expected = Multiply(a, ta, b, tb, size);
        for (const DType out_dtype : {DType::kF32, GetParam()}) {
          const TestMatrix out = Poisoned(out_dtype, size.rows, size.cols, 5);
          ExpectOk(kernels_->MatMul(kStream, a, ta, b, tb, out, Output::kOverwrite, {}));
          EXPECT_LT(RelativeError(out, expected), Tolerance(out_dtype))
              << size.rows << "x" << size.cols << "x" << size.depth;
        }
      }
    }
  }
}

// What the bits of a product are: one chain of fused multiply-adds along the depth.
TestMatrix Chains(const TestMatrix& a, Transpose ta, const TestMatrix& b, Transpose tb,
                  const TestMatrix& start, Case size) {
  const TestMatrix chains = start;
  for (size_t i = 0; i < size.rows; ++i) {
    for (size_t j = 0; j < size.cols; ++j) {
      float sum = static_cast<float>(start.Get(i, j));
      for (size_t k = 0; k < size.depth; ++k) {
        sum = std::fma(static_cast<float>(Element(a, ta, i, k)),
                       static_cast<float>(Element(b, tb, k, j)), sum);
      }
      chains.floats()[i * chains.view().stride + j] = sum;
    }
  }
  return chains;
}

TEST_P(MatMulTest, HasTheBitsOfOneChainOfMultiplyAddsPerElementOnEveryInstructionSet) {
  // Around the blocks that are kept in registers, and a depth that is walked in several strips.
  for (const Case& size : {Case{1, 1, 1}, Case{3, 70, 5}, Case{45, 1, 33}, Case{29, 31, 17},
                           Case{130, 258, 20}, Case{15, 47, 600}}) {
    for (const Transpose ta : kTransposes) {
      for (const Transpose tb : kTransposes) {
        const TestMatrix a = Operand(1, GetParam(), ta, size.rows, size.depth);
        const TestMatrix b = Operand(2, GetParam(), tb, size.depth, size.cols);
        for (const Output output : {Output::kOverwrite, Output::kAccumulate}) {
          const TestMatrix start = output == Output::kOverwrite
                                       ? Filled(DType::kF32, size.rows, size.cols, 0, 3)
                                       : Random(3, DType::kF32, size.rows, size.cols, 3);
          const TestMatrix expected = Chains(a, ta, b, tb, start, size);
          for (const std::string_view isa : InstructionSets()) {
            const TestMatrix out = start;
            ExpectOk((*MakeCpuKernels(2, isa))->MatMul(kStream, a, ta, b, tb, out, output, {}));
            EXPECT_TRUE(out.SameBits(expected))
                << isa << " " << size.rows << "x" << size.cols << "x" << size.depth;
          }
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
  Reference expected = Multiply(a, Transpose::kNo, b, Transpose::kNo, size);
  const Reference before = ValuesOf(out);
  for (size_t i = 0; i < expected.size(); ++i) expected[i] += before[i];
  ExpectOk(kernels_->MatMul(kStream, a, Transpose::kNo, b, Transpose::kNo, out, Output::kAccumulate,
                            {}));
  EXPECT_LT(RelativeError(out, expected), 1e-6);
}

TEST_P(MatMulTest, LeavesWhatIsBetweenTheRowsAlone) {
  const TestMatrix a = Random(1, GetParam(), 20, 30), b = Random(2, GetParam(), 30, 40);
  TestMatrix wide = Filled(GetParam(), 20, 48, 7);
  Matrix out = wide;
  out.cols = 40;
  ExpectOk(
      kernels_->MatMul(kStream, a, Transpose::kNo, b, Transpose::kNo, out, Output::kOverwrite, {}));
  for (size_t row = 0; row < 20; ++row) {
    for (size_t col = 40; col < 48; ++col) EXPECT_EQ(wide.Get(row, col), 7);
  }
}

TEST_P(MatMulTest, Bf16OutputIsTheFp32ProductRoundedOnceByToBf16) {
  const TestMatrix a = Random(1, GetParam(), 200, 77), b = Random(2, GetParam(), 300, 77);
  const TestMatrix exact = Poisoned(DType::kF32, 200, 300);
  const TestMatrix rounded = Poisoned(DType::kBf16, 200, 300);
  for (const Matrix& out : {exact.view(), rounded.view()}) {
    ExpectOk(kernels_->MatMul(kStream, a, Transpose::kNo, b, Transpose::kYes, out,
                              Output::kOverwrite, {}));
  }
  const TestMatrix cast = Poisoned(DType::kBf16, 200, 300);
  ExpectOk(kernels_->Cast(kStream, exact, cast));
  EXPECT_TRUE(rounded.SameBits(cast));
}

TEST_P(MatMulTest, NotANumberReachesItsRowAndOnlyThat) {
  TestMatrix a = Random(1, GetParam(), 9, 12);
  a.Set(4, 3, std::numeric_limits<double>::quiet_NaN());
  const TestMatrix b = Random(2, GetParam(), 12, 8);
  const TestMatrix out(DType::kF32, 9, 8);
  ExpectOk(
      kernels_->MatMul(kStream, a, Transpose::kNo, b, Transpose::kNo, out, Output::kOverwrite, {}));
  for (size_t row = 0; row < 9; ++row) {
    for (size_t col = 0; col < 8; ++col) EXPECT_EQ(std::isnan(out.Get(row, col)), row == 4);
  }
}

INSTANTIATE_TEST_SUITE_P(Precision, MatMulTest,
                         testing::Values(DType::kF32, DType::kBf16, DType::kF16),
                         [](const auto& tested) { return NameOf(tested.param); });

}  // namespace
}  // namespace strata::engine
