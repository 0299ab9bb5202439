#include <array>

#include "tests/engine/kernels/attention_testing.h"
#include "tests/engine/kernels/kernels_rig.h"
#include "tests/engine/kernels/thread_orders.h"

namespace strata::engine {
namespace {

class AttentionTest : public WithTestKernels<testing::TestWithParam<DType>> {};
class AttentionGradientTest : public WithTestKernels<testing::Test> {};

// One token, sizes below, at and beyond the tiles (128 x 128 on cores, 64 x 64 and 32 x 32 on
// CUDA), grouped heads, head sizes that tensor cores take, in part of a tile or whole, and that
// they do not.
constexpr std::array<AttentionShape, 11> kShapes = {{{2, 1, 2, 1, 4},
                                                     {1, 37, 4, 2, 10},
                                                     {2, 128, 2, 2, 16},
                                                     {1, 256, 2, 1, 8},
                                                     {1, 300, 3, 1, 20},
                                                     {1, 521, 2, 2, 64},
                                                     {2, 65, 4, 2, 64},
                                                     {1, 97, 2, 1, 128},
                                                     {1, 64, 3, 1, 80},
                                                     {1, 40, 2, 2, 136},
                                                     {1, 33, 1, 1, 264}}};

TEST_P(AttentionTest, ForwardAndBackwardEqualPlainSoftmaxAttentionElementByElement) {
  for (const AttentionShape& shape : kShapes) {
    // With rows that vector loads suit where the head's size does, and rows that do not.
    for (const size_t padding : {8u, 6u}) {
      if (padding == 6 && shape.seq_len > 128) continue;
      Attention attention(shape, GetParam(), padding);
      attention.Forward(*kernels_);
      attention.Backward(*kernels_);
      const ExpectedAttention expected = PlainAttention(attention);
      SCOPED_TRACE(testing::Message() << "seq_len " << shape.seq_len << " head_dim "
                                      << shape.head_dim << " padding " << padding);
      ExpectWithin(attention.out, expected.out, "out");
      ExpectWithin(attention.log_sum_exp, expected.log_sum_exp, "log_sum_exp");
      ExpectWithin(attention.dv, expected.dv, "dv");
      ExpectWithin(attention.dq, expected.dq, "dq");
      ExpectWithin(attention.dk, expected.dk, "dk");
    }
  }
}

TEST_P(AttentionTest, HasTheSameBitsInEveryRunAndWhateverOrderItsThreadsRunIn) {
  // On tensor cores in tiles of both widths, where the format has 16 bits; and in fp32.
  for (const size_t head_dim : {64u, 72u, 150u}) {
    const auto run = [&] {
      Attention attention({1, 70, 4, 2, head_dim}, GetParam());
      attention.Forward(*kernels_);
      attention.Backward(*kernels_);
      return attention;
    };
    const Attention expected = run();
    ForEachThreadOrder([&](const std::string& order) {
      EXPECT_TRUE(run().SameBits(expected)) << order << " head_dim " << head_dim;
    });
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

TEST_F(AttentionGradientTest, BackwardIsTheDerivativeOfForward) {
  Attention attention({1, 9, 4, 2, 6}, DType::kF32);
  attention.Forward(*kernels_);
  attention.Backward(*kernels_);
  const auto loss = [&] {
    attention.Forward(*kernels_);
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
