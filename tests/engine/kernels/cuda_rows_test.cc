// The promise of the CUDA kernels that work row by row: the bits of the host's kernels, in every
// run and any order of threads. Those are held to plain references in row_kernels_test.cc.
#include <array>
#include <deque>
#include <numeric>

#include "aio/base/units.h"
#include "engine/kernels/cpu_kernels.h"
#include "engine/kernels/cuda/row_operations.h"
#include "tests/engine/kernels/kernels_on_device.h"
#include "tests/engine/kernels/kernels_rig.h"
#include "tests/engine/kernels/kernels_testing.h"
#include "tests/engine/kernels/thread_orders.h"
#include "tests/or_die.h"
#include "tiering/cuda_device.h"

namespace strata::engine {
namespace {

struct Shape {
  size_t rows, cols;
  size_t padding = 0;  // elements between rows
  size_t offset = 0;   // elements that matrices start behind an aligned address
};

std::ostream& operator<<(std::ostream& out, const Shape& shape) {
  return out << shape.rows << "x" << shape.cols << " padding=" << shape.padding
             << " offset=" << shape.offset;
}

// A matrix whose first element is `offset` elements behind an aligned address.
class Operand {
 public:
  Operand(const TestMatrix& matrix, size_t offset) : matrix_(matrix), view_(matrix_.view()) {
    view_.data += offset * SizeOf(view_.dtype);
    view_.cols -= offset;
  }
  operator const Matrix&() const { return view_; }
  const Matrix& view() const { return view_; }
  const TestMatrix& whole() const { return matrix_; }
  float* floats() const { return reinterpret_cast<float*>(view_.data); }

 private:
  TestMatrix matrix_;
  Matrix view_;
};

// Outputs of operations on matrices of one shape, each poisoned or filled before.
class Outputs {
 public:
  explicit Outputs(const Shape& shape) : shape_(shape) {}

  Operand Input(uint32_t seed, DType dtype, double deviation = 1) const {
    return {
        Random(seed, dtype, shape_.rows, shape_.cols + shape_.offset, shape_.padding, deviation),
        shape_.offset};
  }
  const Operand& Out(DType dtype, size_t rows, size_t cols) {
    return all_.emplace_back(Poisoned(dtype, rows, cols + shape_.offset, shape_.padding),
                             shape_.offset);
  }
  const Operand& Out(DType dtype) { return Out(dtype, shape_.rows, shape_.cols); }
  const Operand& Sum(DType dtype, size_t rows, size_t cols) {
    return all_.emplace_back(Random(99, dtype, rows, cols + shape_.offset, shape_.padding),
                             shape_.offset);
  }
  const Operand& Sum(DType dtype) { return Sum(dtype, shape_.rows, shape_.cols); }
  void Number(double value) {
    const Operand& out = Out(DType::kF32, 1, 2);
    std::memcpy(out.view().data, &value, sizeof(value));
  }

  const std::deque<Operand>& all() const { return all_; }

 private:
  Shape shape_;
  std::deque<Operand> all_;
};

void ExpectSameBits(const Outputs& expected, const Outputs& actual) {
  ASSERT_EQ(expected.all().size(), actual.all().size());
  for (size_t i = 0; i < expected.all().size(); ++i)
    EXPECT_TRUE(actual.all()[i].whole().SameBits(expected.all()[i].whole())) << "output " << i;
}

class CudaRowsTest : public WithTestKernels<testing::TestWithParam<DType>> {
 protected:
  // operations(kernels, outputs) on the host's cores and, in all orders of threads, on CUDA.
  template <typename Operations>
  void ExpectTheHostsBits(const Shape& shape, Operations operations) {
    SCOPED_TRACE(testing::Message() << shape);
    Outputs expected(shape);
    operations(*host_, expected);
    ForEachThreadOrder([&](const std::string& order) {
      SCOPED_TRACE(order);
      Outputs actual(shape);
      operations(*kernels_, actual);
      ExpectSameBits(expected, actual);
    });
  }
  DType dtype() const { return GetParam(); }

  std::unique_ptr<Kernels> host_ = MakeCpuKernels(2).value();
};

// Narrower and wider than a pack, a warp, a block and a block's chunk; aligned or not by their
// start, their stride or both.
constexpr std::array<Shape, 11> kShapes = {{{1, 1},
                                            {3, 15, 1},
                                            {7, 16},
                                            {5, 64, 8},
                                            {6, 64, 8, 3},
                                            {70, 333},
                                            {9, 1024, 0, 8},
                                            {4, 1032},
                                            {3, 2056, 24},
                                            {2, 5000, 1, 1},
                                            {1, 40'000}}};

TEST_P(CudaRowsTest, RmsNormHasTheHostsBits) {
  for (const Shape& shape : kShapes) {
    ExpectTheHostsBits(shape, [&](Kernels& kernels, Outputs& outputs) {
      const Operand x = outputs.Input(1, dtype(), 3), dy = outputs.Input(2, dtype());
      const Operand weight = outputs.Input(3, dtype());
      ExpectOk(kernels.RmsNormForward(kStream, x, weight.view().data, 1e-5f, outputs.Out(dtype())));
      for (const DType dx : {DType::kF32, dtype()}) {
        const Operand& gradient = outputs.Sum(DType::kF32, 1, shape.cols);
        ExpectOk(kernels.RmsNormBackward(kStream, x, weight.view().data, 1e-5f, dy, outputs.Sum(dx),
                                         gradient.floats(), {}));
      }
    });
  }
}

// The weight's gradient is summed over tiles of 128 rows.
TEST_P(CudaRowsTest, TheGradientOfANormsWeightHasTheHostsBitsForAnyNumberOfRows) {
  for (const size_t rows : {127u, 128u, 129u, 500u}) {
    ExpectTheHostsBits({rows, 40}, [&](Kernels& kernels, Outputs& outputs) {
      const Operand x = outputs.Input(1, dtype(), 3), dy = outputs.Input(2, dtype());
      const Operand weight = outputs.Input(3, dtype());
      const Operand& gradient = outputs.Sum(DType::kF32, 1, x.view().cols);
      ExpectOk(kernels.RmsNormBackward(kStream, x, weight.view().data, 1e-5f, dy,
                                       outputs.Sum(dtype()), gradient.floats(), {}));
    });
  }
}

TEST_P(CudaRowsTest, SwiGluAddAndCastsHaveTheHostsBits) {
  for (const Shape& shape : kShapes) {
    ExpectTheHostsBits(shape, [&](Kernels& kernels, Outputs& outputs) {
      const Operand gate = outputs.Input(1, dtype(), 8), up = outputs.Input(2, dtype());
      const Operand dout = outputs.Input(3, dtype());
      ExpectOk(kernels.SwiGluForward(kStream, gate, up, outputs.Out(dtype())));
      const Matrix dgate = outputs.Out(dtype()), dup = outputs.Out(dtype());
      ExpectOk(kernels.SwiGluBackward(kStream, gate, up, dout, dgate, dup));
      const Matrix in_place = outputs.Sum(dtype());
      ExpectOk(kernels.SwiGluBackward(kStream, in_place, up, dout, in_place, outputs.Out(dtype())));
      ExpectOk(kernels.Add(kStream, gate, up, outputs.Out(dtype())));
      ExpectOk(kernels.Add(kStream, in_place, up, in_place));
      for (const DType to : {DType::kF32, DType::kBf16, DType::kF16})
        ExpectOk(kernels.Cast(kStream, gate, outputs.Out(to)));
    });
  }
}

TEST_P(CudaRowsTest, RopeHasTheHostsBits) {
  struct Heads {
    size_t head_dim, seq_len;
    Shape shape;
  };
  // Pairs of a head in packs and not, in one launch and in three; rows that start a sequence again.
  for (const Heads& heads :
       {Heads{2, 7, {20, 6}}, Heads{30, 65, {130, 90, 2}}, Heads{64, 100'000, {9, 128}},
        Heads{64, 40, {50, 128, 8, 8}}, Heads{128, 11, {30, 512}}, Heads{600, 9, {10, 1200}},
        Heads{64, 5, {6, 64, 0, 1}}}) {
    ExpectTheHostsBits(heads.shape, [&](Kernels& kernels, Outputs& outputs) {
      std::vector<float> frequency;
      for (size_t i = 0; i < heads.head_dim / 2; ++i)
        frequency.push_back(static_cast<float>(std::pow(
            10'000.0, -2.0 * static_cast<double>(i) / static_cast<double>(heads.head_dim))));
      for (const int direction : {1, -1})
        ExpectOk(kernels.Rope(kStream, outputs.Sum(dtype()), heads.seq_len, heads.head_dim,
                              frequency, 1.25f, direction));
    });
  }
}

// Losses are within what two logarithms in fp64 may differ by, relative to a sum of numbers that
// have one sign.
TEST_P(CudaRowsTest, CrossEntropyHasTheHostsBitsButForTheLoss) {
  for (const Shape& shape : {Shape{1, 1}, Shape{5, 100, 3}, Shape{40, 1032}, Shape{3, 9000, 0, 1},
                             Shape{300, 20}, Shape{2, 70'000}}) {
    std::vector<double> losses;
    ExpectTheHostsBits(shape, [&](Kernels& kernels, Outputs& outputs) {
      const Operand logits = outputs.Input(1, DType::kF32, 5);
      const size_t first_cols = shape.cols / 3 + 1;  // in two pieces, if there are two columns
      const auto piece = [&](const Matrix& matrix, size_t first, size_t cols) {
        Matrix part = matrix;
        part.data += first * SizeOf(matrix.dtype);
        part.cols = cols;
        return part;
      };
      std::vector<int32_t> targets(shape.rows);
      for (size_t row = 0; row < shape.rows; ++row)
        targets[row] = row % 4 == 2 ? -1 : static_cast<int32_t>(row * 131 % shape.cols);
      std::vector<SoftmaxRow> rows(shape.rows, SoftmaxRow{7, 8, 9});
      const Matrix dlogits = outputs.Out(dtype());
      ExpectOk(kernels.SoftmaxStatistics(kStream, piece(logits, 0, first_cols), targets, 0,
                                         Output::kOverwrite, rows));
      if (first_cols < shape.cols)
        ExpectOk(kernels.SoftmaxStatistics(kStream,
                                           piece(logits, first_cols, shape.cols - first_cols),
                                           targets, first_cols, Output::kAccumulate, rows));
      for (const SoftmaxRow& row : rows) {
        outputs.Number(row.sum);
        outputs.Number(static_cast<double>(row.maximum));
        outputs.Number(static_cast<double>(row.target));
      }
      ExpectOk(kernels.CrossEntropy(kStream, piece(logits, 0, first_cols), targets, 0, rows, 0.37f,
                                    piece(dlogits, 0, first_cols)));
      if (first_cols < shape.cols)
        ExpectOk(kernels.CrossEntropy(kStream, piece(logits, first_cols, shape.cols - first_cols),
                                      targets, first_cols, rows, 0.37f,
                                      piece(dlogits, first_cols, shape.cols - first_cols)));
      const Matrix in_place = outputs.Sum(DType::kF32);
      ExpectOk(kernels.CrossEntropy(kStream, in_place, targets, 0, rows, 2.0f, in_place));
      losses.push_back(3);
      ExpectOk(kernels.CrossEntropyLoss(kStream, targets, rows, &losses.back()));
    });
    for (const double loss : losses) EXPECT_NEAR(loss, losses.front(), 1e-15 * losses.front());
    EXPECT_TRUE(std::equal(losses.begin() + 2, losses.end(), losses.begin() + 1)) << shape;
  }
}

TEST_P(CudaRowsTest, TheEmbeddingHasTheHostsBits) {
  constexpr size_t kIds = 50;
  for (const Shape& shape : {Shape{1, 1}, Shape{40, 15, 1}, Shape{700, 24}, Shape{1100, 8, 8},
                             Shape{5, 3000}, Shape{30, 64, 0, 1}}) {
    ExpectTheHostsBits(shape, [&](Kernels& kernels, Outputs& outputs) {
      const Operand table{Random(4, dtype(), kIds, shape.cols + shape.offset, shape.padding),
                          shape.offset};
      const Operand dout = outputs.Input(5, dtype());
      std::vector<int32_t> ids(shape.rows);
      for (size_t row = 0; row < shape.rows; ++row)  // the first often, one of them not at all
        ids[row] = row % 3 == 0 ? 7 : static_cast<int32_t>(row * row % (kIds + 9));
      constexpr size_t kFirst = 2;  // ids 0, 1 and from 42 on are not in the table
      Matrix part = table;
      part.rows = 40;
      ExpectOk(kernels.EmbeddingForward(kStream, part, kFirst, ids, outputs.Sum(dtype())));
      ExpectOk(kernels.EmbeddingBackward(kStream, ids, dout, kFirst,
                                         outputs.Sum(DType::kF32, 40, shape.cols)));
    });
  }
}

TEST_P(CudaRowsTest, SumsOfSquaresHaveTheHostsBits) {
  for (const Shape& shape : {Shape{1, 1}, Shape{1, 17}, Shape{1, 65'536}, Shape{1, 65'537, 0, 1},
                             Shape{1, 200'003}, Shape{1, 140'000, 0, 8}}) {
    ExpectTheHostsBits(shape, [&](Kernels& kernels, Outputs& outputs) {
      const Operand numbers = outputs.Input(1, dtype()), exact = outputs.Input(2, DType::kF32);
      double squares = -1;
      ExpectOk(kernels.SumOfSquares(kStream, {numbers.view().data, shape.cols * SizeOf(dtype())},
                                    dtype(), &squares, {}));
      outputs.Number(squares);
      ExpectOk(kernels.RoundAndSumSquares(kStream, {exact.floats(), shape.cols},
                                          outputs.Out(dtype()).view().data, dtype(), &squares, {}));
      outputs.Number(squares);
    });
  }
}

// A workspace holds half a billion elements' sums, and 16384 rows': here less.
TEST_P(CudaRowsTest, InRoundsOfWhatTheWorkspaceHoldsTheBitsAreTheSame) {
  const std::unique_ptr<tiering::Device> device =
      OrDie(tiering::CreateCudaDevice(0, /*budget_bytes=*/8_MiB));
  const std::unique_ptr<tiering::DeviceStream> stream = device->CreateStream("test");
  const Operand numbers{Random(1, dtype(), 1, 400'001), 0};
  double expected = -1, squares = -1;
  const std::span<std::byte> bytes(numbers.view().data, 400'001 * SizeOf(dtype()));
  ExpectOk(host_->SumOfSquares(kStream, bytes, dtype(), &expected, {}));
  DeviceCall sum(*device, *stream);
  const std::span<std::byte> on_bytes = sum.In(bytes);
  const std::span<double> on_squares = sum.Out(std::span(&squares, 1));
  const std::span<std::byte> sums = sum.Workspace(3 * sizeof(double));  // of 7 pieces
  ExpectOk(sum.Run([&](const Kernels::Stream& on) {
    return cuda::SumOfSquares(on, on_bytes, dtype(), on_squares.data(),
                              {reinterpret_cast<double*>(sums.data()), 3});
  }));
  EXPECT_EQ(squares, expected);

  const TestMatrix x = Random(2, dtype(), 23, 40), dy = Random(3, dtype(), 23, 40);
  const TestMatrix weight = Random(4, dtype(), 1, 40), dx = Random(5, dtype(), 23, 40);
  const TestMatrix host_dx = dx, gradient = Random(6, DType::kF32, 1, 40), on_host = gradient;
  ExpectOk(host_->RmsNormBackward(kStream, x, weight.view().data, 1e-5f, dy, host_dx,
                                  on_host.floats(), {}));
  DeviceCall norm(*device, *stream);
  const Matrix on_x = norm.In(x), on_dy = norm.In(dy), on_weight = norm.In(weight);
  const Matrix on_dx = norm.Out(dx), on_gradient = norm.Out(gradient);
  const std::span<std::byte> rms = norm.Workspace(10 * sizeof(float));
  ExpectOk(norm.Run([&](const Kernels::Stream& on) {
    return cuda::RmsNormBackward(on, on_x, on_weight.data, 1e-5f, on_dy, on_dx,
                                 reinterpret_cast<float*>(on_gradient.data),
                                 {reinterpret_cast<float*>(rms.data()), 10});
  }));
  EXPECT_TRUE(dx.SameBits(host_dx));
  EXPECT_TRUE(gradient.SameBits(on_host));
}

INSTANTIATE_TEST_SUITE_P(Precision, CudaRowsTest,
                         testing::Values(DType::kF32, DType::kBf16, DType::kF16),
                         [](const auto& tested) { return NameOf(tested.param); });

}  // namespace
}  // namespace strata::engine
