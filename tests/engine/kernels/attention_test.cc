#include <array>

#include "tests/engine/kernels/kernels_testing.h"

namespace strata::engine {
namespace {

struct Attention {
  Attention(const AttentionShape& shape_in, DType dtype, size_t padding = 0)
      : shape(shape_in),
        q(Random(1, dtype, rows(), q_cols(), padding)),
        k(Random(2, dtype, rows(), kv_cols(), padding)),
        v(Random(3, dtype, rows(), kv_cols(), padding)),
        dout(Random(4, dtype, rows(), q_cols(), padding)),
        out(Poisoned(dtype, rows(), q_cols(), padding)),
        dq(Poisoned(dtype, rows(), q_cols(), padding)),
        dk(Poisoned(dtype, rows(), kv_cols(), padding)),
        dv(Poisoned(dtype, rows(), kv_cols(), padding)),
        log_sum_exp(Poisoned(DType::kF32, shape.num_heads, rows())) {}

  size_t rows() const { return shape.batch * shape.seq_len; }
  size_t q_cols() const { return shape.num_heads * shape.head_dim; }
  size_t kv_cols() const { return shape.num_kv_heads * shape.head_dim; }

  // A workspace full of NaN: nothing may be read before it is written.
  std::span<std::byte> Workspace(const Kernels& kernels) {
    const size_t size_bytes = kernels.AttentionWorkspaceBytes(shape, q.dtype());
    workspace.emplace_back(DType::kF32, 1, size_bytes / sizeof(float)).Poison();
    return {workspace.back().view().data, size_bytes};
  }
  void Forward(Kernels& kernels) {
    ExpectOk(kernels.AttentionForward(kStream, shape, q, k, v, out, log_sum_exp.floats(),
                                      Workspace(kernels)));
  }
  void Backward(Kernels& kernels) {
    ExpectOk(kernels.AttentionBackward(kStream, shape, q, k, v, out, log_sum_exp.floats(), dout, dq,
                                       dk, dv, Workspace(kernels)));
  }

  AttentionShape shape;
  TestMatrix q, k, v, dout, out, dq, dk, dv, log_sum_exp;
  std::vector<TestMatrix> workspace;
};

struct Expected {
  Reference out, log_sum_exp, dq, dk, dv;
};

// One query row of one head: softmax over the keys it sees, and what its gradient adds.
void AddRow(const Attention& in, size_t batch, size_t head, size_t t, Expected& expected) {
  const size_t head_dim = in.shape.head_dim;
  const size_t q_col = head * head_dim;
  const size_t kv_col = head / (in.shape.num_heads / in.shape.num_kv_heads) * head_dim;
  const size_t first = batch * in.shape.seq_len, row = first + t;
  const double scale = 1 / std::sqrt(static_cast<double>(head_dim));
  std::vector<double> p(t + 1), dp(t + 1);
  double maximum = -1e300, sum = 0, dot = 0;
  for (size_t s = 0; s <= t; ++s) {
    for (size_t i = 0; i < head_dim; ++i) {
      p[s] += in.q.Get(row, q_col + i) * in.k.Get(first + s, kv_col + i) * scale;
      dp[s] += in.dout.Get(row, q_col + i) * in.v.Get(first + s, kv_col + i);
    }
    maximum = std::max(maximum, p[s]);
  }
  for (double& score : p) sum += score = std::exp(score - maximum);
  for (size_t s = 0; s <= t; ++s) dot += (p[s] /= sum) * dp[s];
  expected.log_sum_exp[head * in.rows() + row] = maximum + std::log(sum);
  for (size_t s = 0; s <= t; ++s) {
    const double ds = p[s] * (dp[s] - dot) * scale;
    for (size_t i = 0; i < head_dim; ++i) {
      const size_t q_at = row * in.q_cols() + q_col + i;
      const size_t kv_at = (first + s) * in.kv_cols() + kv_col + i;
      expected.out[q_at] += p[s] * in.v.Get(first + s, kv_col + i);
      expected.dq[q_at] += ds * in.k.Get(first + s, kv_col + i);
      expected.dk[kv_at] += ds * in.q.Get(row, q_col + i);
      expected.dv[kv_at] += p[s] * in.dout.Get(row, q_col + i);
    }
  }
}

Expected PlainAttention(const Attention& in) {
  const size_t q_size = in.rows() * in.q_cols(), kv_size = in.rows() * in.kv_cols();
  Expected expected{Reference(q_size), Reference(in.shape.num_heads * in.rows()), Reference(q_size),
                    Reference(kv_size), Reference(kv_size)};
  for (size_t batch = 0; batch < in.shape.batch; ++batch) {
    for (size_t head = 0; head < in.shape.num_heads; ++head) {
      for (size_t t = 0; t < in.shape.seq_len; ++t) AddRow(in, batch, head, t, expected);
    }
  }
  return expected;
}

class AttentionTest : public testing::TestWithParam<DType> {
 protected:
  std::unique_ptr<Kernels> kernels_ = MakeCpuKernels(2).value();
};

// One token, sizes below, at and beyond the tiles (128 x 128), grouped heads, odd head
// sizes.
constexpr std::array<AttentionShape, 6> kShapes = {{{2, 1, 2, 1, 4},
                                                    {1, 37, 4, 2, 10},
                                                    {2, 128, 2, 2, 16},
                                                    {1, 256, 2, 1, 8},
                                                    {1, 300, 3, 1, 20},
                                                    {1, 521, 2, 2, 64}}};

// In fp32 a sum of n terms that cancel loses about 1e-7 * sqrt(n). In bf16 probabilities and score
// gradients are rounded before they are multiplied: each product is off by up to 2^-9, and
// out itself, which the backward starts from, too.
constexpr double AttentionTolerance(DType dtype) { return dtype == DType::kF32 ? 3e-6 : 8e-3; }

TEST_P(AttentionTest, ForwardAndBackwardEqualPlainSoftmaxAttention) {
  for (const AttentionShape& shape : kShapes) {
    Attention attention(shape, GetParam(), 6);
    attention.Forward(*kernels_);
    attention.Backward(*kernels_);
    const Expected expected = PlainAttention(attention);
    const double tolerance = AttentionTolerance(GetParam());
    SCOPED_TRACE(testing::Message() << "seq_len " << shape.seq_len);
    EXPECT_LT(RelativeError(attention.out, expected.out), tolerance);
    EXPECT_LT(RelativeError(attention.log_sum_exp, expected.log_sum_exp), 1e-6);
    EXPECT_LT(RelativeError(attention.dv, expected.dv), tolerance);
    if (shape.seq_len == 1) continue;  // the softmax of one score is constant
    EXPECT_LT(RelativeError(attention.dq, expected.dq), tolerance);
    EXPECT_LT(RelativeError(attention.dk, expected.dk), tolerance);
  }
}

TEST_P(AttentionTest, ATokenDoesNotSeeLaterOnes) {
  const AttentionShape shape{1, 290, 2, 1, 16};
  Attention before(shape, GetParam()), after(shape, GetParam());
  for (size_t row = 200; row < 290; ++row) {
    for (size_t col = 0; col < after.kv_cols(); ++col) {
      after.k.Set(row, col, 100);
      after.v.Set(row, col, -1000);
    }
  }
  before.Forward(*kernels_);
  after.Forward(*kernels_);
  for (size_t row = 0; row < 200; ++row) {
    for (size_t col = 0; col < before.q_cols(); ++col) {
      ASSERT_EQ(before.out.Get(row, col), after.out.Get(row, col)) << row;
    }
  }
}

TEST_P(AttentionTest, LargeScoresDoNotOverflow) {
  Attention attention({1, 300, 1, 1, 8}, GetParam());
  for (size_t row = 0; row < 300; ++row) {
    for (size_t col = 0; col < 8; ++col) {
      attention.q.Set(row, col, 100.0 * attention.q.Get(row, col));
      attention.k.Set(row, col, 100.0 * attention.k.Get(row, col));
    }
  }
  attention.Forward(*kernels_);
  attention.Backward(*kernels_);
  for (const TestMatrix* result : {&attention.out, &attention.dq, &attention.dk, &attention.dv}) {
    for (const double value : ValuesOf(*result)) ASSERT_TRUE(std::isfinite(value));
  }
}

TEST_P(AttentionTest, NotANumberIsNotHidden) {
  Attention attention({1, 40, 1, 1, 8}, GetParam());
  attention.k.Set(3, 2, std::numeric_limits<double>::quiet_NaN());
  attention.Forward(*kernels_);
  EXPECT_FALSE(std::isnan(attention.out.Get(2, 0)));
  EXPECT_TRUE(std::isnan(attention.out.Get(3, 0)));
  EXPECT_TRUE(std::isnan(attention.out.Get(39, 7)));
}

INSTANTIATE_TEST_SUITE_P(Precision, AttentionTest,
                         testing::Values(DType::kF32, DType::kBf16, DType::kF16),
                         [](const auto& tested) { return NameOf(tested.param); });

TEST(AttentionGradientTest, BackwardIsTheDerivativeOfForward) {
  const std::unique_ptr<Kernels> kernels = MakeCpuKernels(1).value();
  Attention attention({1, 9, 4, 2, 6}, DType::kF32);
  attention.Forward(*kernels);
  attention.Backward(*kernels);
  const auto loss = [&] {
    attention.Forward(*kernels);
    return Dot(attention.out, attention.dout);
  };
  const auto check = [&](TestMatrix& input, const TestMatrix& gradient) {
    for (size_t row = 0; row < input.rows(); row += 2) {
      for (size_t col = 0; col < input.cols(); col += 5) {
        EXPECT_NEAR(FiniteDifference(input, row, col, loss), gradient.Get(row, col), 1e-3);
      }
    }
  };
  check(attention.q, attention.dq);
  check(attention.k, attention.dk);
  check(attention.v, attention.dv);
}

}  // namespace
}  // namespace strata::engine
