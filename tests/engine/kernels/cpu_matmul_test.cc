// The bits of products on the host's cores.
#include "engine/kernels/cpu_kernels.h"
#include "tests/engine/kernels/matmul_testing.h"

namespace strata::engine {
namespace {

class CpuMatMulTest : public testing::TestWithParam<DType> {
 protected:
  std::unique_ptr<Kernels> kernels_ = MakeCpuKernels(2).value();
};

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

TEST_P(CpuMatMulTest, HasTheBitsOfOneChainOfMultiplyAddsPerElementOnEveryInstructionSet) {
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

TEST_P(CpuMatMulTest, Bf16OutputIsTheFp32ProductRoundedOnceByToBf16) {
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

INSTANTIATE_TEST_SUITE_P(Precision, CpuMatMulTest,
                         testing::Values(DType::kF32, DType::kBf16, DType::kF16),
                         [](const auto& tested) { return NameOf(tested.param); });

}  // namespace
}  // namespace strata::engine
