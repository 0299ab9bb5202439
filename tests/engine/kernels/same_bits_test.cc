// The promise that neither threads nor instruction sets nor addresses show in the bits.
#include <array>
#include <deque>

#include "tests/engine/kernels/kernels_testing.h"

namespace strata::engine {
namespace {

// Every operation once, on shapes of several tiles; all outputs in one list (that does
// not move them), poisoned before.
class Everything {
 public:
  explicit Everything(DType dtype) : dtype_(dtype) {}

  std::deque<TestMatrix> Run(Kernels& kernels) {
    outputs_.clear();
    Products(kernels);
    Rows(kernels);
    Squares(kernels);
    Heads(kernels);
    return std::move(outputs_);
  }

 private:
  static constexpr size_t kRows = 130, kCols = 300;

  const TestMatrix& Out(DType dtype, size_t rows, size_t cols) {
    return outputs_.emplace_back(Poisoned(dtype, rows, cols));
  }
  const TestMatrix& Sum(DType dtype, size_t rows, size_t cols) {
    return outputs_.emplace_back(Filled(dtype, rows, cols, 0.125));
  }

  void Number(double value) {
    std::memcpy(Out(DType::kF32, 1, 2).view().data, &value, sizeof(value));
  }

  void Products(Kernels& kernels) {
    const TestMatrix a = Random(1, dtype_, 301, 90), b = Random(2, dtype_, 700, 90);
    for (const Matrix& out : {Out(dtype_, 301, 700).view(), Out(DType::kF32, 301, 700).view()}) {
      ExpectOk(kernels.MatMul(kStream, a, Transpose::kNo, b, Transpose::kYes, out,
                              Output::kOverwrite, {}));
    }
    const TestMatrix& sum = Sum(DType::kF32, 90, 90);
    ExpectOk(kernels.MatMul(kStream, b, Transpose::kYes, b, Transpose::kNo, sum,
                            Output::kAccumulate, {}));
  }

  void Rows(Kernels& kernels) {
    const TestMatrix x = Random(3, dtype_, kRows, kCols), dy = Random(4, dtype_, kRows, kCols);
    const TestMatrix weight = Random(5, dtype_, 1, kCols);
    const auto out = [&] { return Out(dtype_, kRows, kCols).view(); };
    ExpectOk(kernels.RmsNormForward(kStream, x, weight.view().data, 1e-5f, out()));
    const Matrix dx = Sum(dtype_, kRows, kCols);
    const TestMatrix& dweight = Sum(DType::kF32, 1, kCols);
    ExpectOk(kernels.RmsNormBackward(kStream, x, weight.view().data, 1e-5f, dy, dx,
                                     dweight.floats(), {}));
    ExpectOk(kernels.SwiGluForward(kStream, x, dy, out()));
    const Matrix dgate = out(), dup = out();
    ExpectOk(kernels.SwiGluBackward(kStream, x, dy, dy, dgate, dup));
    ExpectOk(kernels.Add(kStream, x, dy, out()));
    const Matrix rotated = out();
    ExpectOk(kernels.Cast(kStream, x, rotated));
    const std::array<float, 15> frequency = {1, 0.5f, 0.2f, 0.1f, 0.01f};
    ExpectOk(kernels.Rope(kStream, rotated, 65, 30, frequency, 1, 1));
    Losses(kernels);
  }

  void Losses(Kernels& kernels) {
    const TestMatrix logits = Random(6, DType::kF32, kRows, kCols);
    std::vector<int32_t> ids(kRows);
    for (size_t i = 0; i < kRows; ++i) ids[i] = static_cast<int32_t>(i * i % 100);
    double loss = 0;
    CrossEntropyOf(kernels, logits, ids, 1, Out(dtype_, kRows, kCols), &loss);
    Number(loss);
    const TestMatrix rows = Random(7, dtype_, kRows, kCols);
    ExpectOk(kernels.EmbeddingForward(kStream, rows, 0, ids, Out(dtype_, kRows, kCols)));
    ExpectOk(kernels.EmbeddingBackward(kStream, ids, rows, 0, Sum(DType::kF32, 100, kCols)));
  }

  // Of several pieces, and of one that ends within a group of sixteen.
  void Squares(Kernels& kernels) {
    for (const size_t n : {15u, 200'003u}) {
      const TestMatrix from = Random(12, DType::kF32, 1, n);
      const TestMatrix& to = Out(dtype_, 1, n);
      double squares = 0;
      ExpectOk(kernels.RoundAndSumSquares(kStream, {from.floats(), n}, to.view().data, dtype_,
                                          &squares, {}));
      Number(squares);
      ExpectOk(kernels.SumOfSquares(kStream, {to.view().data, n * SizeOf(dtype_)}, dtype_, &squares,
                                    {}));
      Number(squares);
    }
  }

  void Heads(Kernels& kernels) {
    const AttentionShape shape{2, 290, 4, 2, 24};
    const auto random = [&](uint32_t seed, size_t heads) {
      return Random(seed, dtype_, 580, heads * 24);
    };
    const TestMatrix q = random(8, 4), k = random(9, 2), v = random(10, 2), dout = random(11, 4);
    TestMatrix workspace =
        Poisoned(DType::kF32, 1, kernels.AttentionWorkspaceBytes(shape, dtype_) / sizeof(float));
    const std::span<std::byte> bytes(workspace.view().data, workspace.view().size_bytes());
    const Matrix out = Out(dtype_, 580, 96), dq = Out(dtype_, 580, 96);
    const Matrix dk = Out(dtype_, 580, 48), dv = Out(dtype_, 580, 48);
    float* log_sum_exp = Out(DType::kF32, 4, 580).floats();
    ExpectOk(kernels.AttentionForward(kStream, shape, q, k, v, out, log_sum_exp, bytes));
    workspace.Poison();
    ExpectOk(kernels.AttentionBackward(kStream, shape, q, k, v, out, log_sum_exp, dout, dq, dk, dv,
                                       bytes));
  }

  DType dtype_;
  std::deque<TestMatrix> outputs_;
};

class SameBitsTest : public testing::TestWithParam<DType> {
 protected:
  static void ExpectSame(const std::deque<TestMatrix>& a, const std::deque<TestMatrix>& b) {
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(a[i].SameBits(b[i])) << "output " << i;
  }
  std::deque<TestMatrix> Run(Kernels& kernels) { return Everything(GetParam()).Run(kernels); }
};

TEST_P(SameBitsTest, AnyNumberOfThreadsGivesTheSameBitsEveryTime) {
  const std::deque<TestMatrix> one = Run(**MakeCpuKernels(1));
  for (const uint32_t num_threads : {1u, 2u, 3u, 5u}) {
    const std::unique_ptr<Kernels> kernels = MakeCpuKernels(num_threads).value();
    for (int repeat = 0; repeat < 2; ++repeat) {
      SCOPED_TRACE(testing::Message() << num_threads << " threads");
      ExpectSame(one, Run(*kernels));
    }
  }
}

TEST_P(SameBitsTest, EveryInstructionSetGivesTheSameBits) {
  const std::deque<TestMatrix> best = Run(**MakeCpuKernels(1));
  for (const std::string_view isa : InstructionSets()) {
    SCOPED_TRACE(isa);
    ExpectSame(best, Run(**MakeCpuKernels(1, isa)));
  }
}

// Slots of an arena start at different addresses from run to run and budget to budget.
TEST_P(SameBitsTest, WhereTheOperandsOfAProductAreDoesNotShow) {
  constexpr size_t kRows = 200, kCols = 330, kDepth = 100;
  const TestMatrix a = Random(1, GetParam(), kRows, kDepth),
                   b = Random(2, GetParam(), kCols, kDepth);
  const std::unique_ptr<Kernels> kernels = MakeCpuKernels(1).value();
  const TestMatrix expected = Poisoned(DType::kF32, kRows, kCols);
  ExpectOk(kernels->MatMul(kStream, a, Transpose::kNo, b, Transpose::kYes, expected,
                           Output::kOverwrite, {}));
  const auto moved = [](const TestMatrix& from, std::vector<std::byte>& memory, size_t offset) {
    memory.resize(from.view().size_bytes() + 8192);
    std::byte* base = memory.data() + (4096 - reinterpret_cast<uintptr_t>(memory.data()) % 4096);
    std::memcpy(base + offset, from.view().data, from.view().size_bytes());
    return DenseMatrix(base + offset, from.dtype(), from.rows(), from.cols());
  };
  for (const size_t offset : {0u, 4u, 32u, 64u, 320u, 2048u, 4032u}) {
    std::vector<std::byte> memory_a, memory_b, memory_out;
    const Matrix out = moved(expected, memory_out, 4032 - offset);
    ExpectOk(kernels->MatMul(kStream, moved(a, memory_a, offset), Transpose::kNo,
                             moved(b, memory_b, offset), Transpose::kYes, out, Output::kOverwrite,
                             {}));
    EXPECT_EQ(std::memcmp(out.data, expected.view().data, out.size_bytes()), 0) << offset;
  }
}

INSTANTIATE_TEST_SUITE_P(Precision, SameBitsTest,
                         testing::Values(DType::kF32, DType::kBf16, DType::kF16),
                         [](const auto& tested) { return NameOf(tested.param); });

}  // namespace
}  // namespace strata::engine
