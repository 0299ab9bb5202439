#include "tests/engine/kernels/attention_testing.h"

namespace strata::engine {
namespace {

// One query row of one head.
struct Row {
  const Attention& in;
  size_t batch, head, t;

  size_t head_dim() const { return in.shape.head_dim; }
  size_t first() const { return batch * in.shape.seq_len; }
  size_t row() const { return first() + t; }
  size_t kv_head() const { return head / (in.shape.num_heads / in.shape.num_kv_heads); }
  size_t QueryAt(size_t i) const { return row() * in.q_cols() + head * head_dim() + i; }
  size_t KeyAt(size_t s, size_t i) const {
    return (first() + s) * in.kv_cols() + kv_head() * head_dim() + i;
  }
  double Query(const TestMatrix& matrix, size_t i) const {
    return matrix.Get(row(), head * head_dim() + i);
  }
  double Key(const TestMatrix& matrix, size_t s, size_t i) const {
    return matrix.Get(first() + s, kv_head() * head_dim() + i);
  }
};

// Of the keys that a row sees.
struct Scores {
  explicit Scores(size_t count) : p(count), p_error(count), dp(count), dp_error(count) {}
  std::vector<double> p, p_error;    // probabilities; errors are relative
  std::vector<double> dp, dp_error;  // their gradients
  double log_sum_exp = 0, log_sum_exp_error = 0;
};

Scores ScoresOf(const Row& at) {
  const double scale = 1 / std::sqrt(static_cast<double>(at.head_dim()));
  const double terms = static_cast<double>(at.head_dim());
  Scores scores(at.t + 1);
  double maximum = -1e300, sum = 0, worst = 0;
  for (size_t s = 0; s <= at.t; ++s) {
    double absolute = 0;
    for (size_t i = 0; i < at.head_dim(); ++i) {
      const double product = at.Query(at.in.q, i) * at.Key(at.in.k, s, i) * scale;
      scores.p[s] += product;
      absolute += std::abs(product);
      const double gradient = at.Query(at.in.dout, i) * at.Key(at.in.v, s, i);
      scores.dp[s] += gradient;
      scores.dp_error[s] += std::abs(gradient) * terms * kSumError;
    }
    scores.p_error[s] =
        absolute * terms * kSumError;  // of the score, so relative of its exponential
    worst = std::max(worst, scores.p_error[s]);
    maximum = std::max(maximum, scores.p[s]);
  }
  for (double& p : scores.p) sum += p = std::exp(p - maximum);
  for (double& p : scores.p) p /= sum;
  scores.log_sum_exp = maximum + std::log(sum);
  const double count = static_cast<double>(at.t + 1);
  scores.log_sum_exp_error = worst + (count + 4 + std::abs(scores.log_sum_exp)) * kSumError;
  for (double& error : scores.p_error) error += scores.log_sum_exp_error;
  return scores;
}

// out, and its error, by column.
Bounded OutOf(const Row& at, const Scores& scores) {
  const DType dtype = at.in.q.dtype();
  const double count = static_cast<double>(at.t + 1);
  Bounded out(at.head_dim());
  for (size_t i = 0; i < at.head_dim(); ++i) {
    for (size_t s = 0; s <= at.t; ++s) {
      const double p = scores.p[s], value = at.Key(at.in.v, s, i);
      out.values[i] += p * value;
      out.bounds[i] +=
          std::abs(value) * (p * (scores.p_error[s] + count * kSumError) + RoundingError(dtype, p));
    }
    out.bounds[i] += RoundingError(dtype, out.values[i]);
  }
  return out;
}

void AddRow(const Row& at, ExpectedAttention& expected) {
  const DType dtype = at.in.q.dtype();
  const double scale = 1 / std::sqrt(static_cast<double>(at.head_dim()));
  // dk and dv are sums over queries and heads; each is rounded once, which is added at the end.
  const double terms = static_cast<double>(at.in.shape.seq_len * at.in.shape.num_heads);
  const Scores scores = ScoresOf(at);
  const Bounded out = OutOf(at, scores);
  double dot = 0, dot_error = 0;
  for (size_t s = 0; s <= at.t; ++s) dot += scores.p[s] * scores.dp[s];
  for (size_t i = 0; i < at.head_dim(); ++i) {
    expected.out.values[at.QueryAt(i)] = out.values[i];
    expected.out.bounds[at.QueryAt(i)] = out.bounds[i];
    const double gradient = std::abs(at.Query(at.in.dout, i));
    dot_error += gradient * (out.bounds[i] + std::abs(out.values[i]) *
                                                 static_cast<double>(at.head_dim()) * kSumError);
  }
  const size_t number = at.head * at.in.rows() + at.row();
  expected.log_sum_exp.values[number] = scores.log_sum_exp;
  expected.log_sum_exp.bounds[number] = scores.log_sum_exp_error;
  for (size_t s = 0; s <= at.t; ++s) {
    const double p = scores.p[s];
    const double p_bound = p * (scores.p_error[s] + terms * kSumError) + RoundingError(dtype, p);
    const double ds = p * (scores.dp[s] - dot) * scale;
    const double difference_error =
        scores.dp_error[s] + dot_error + (std::abs(scores.dp[s]) + std::abs(dot)) * kSumError;
    const double ds_bound = std::abs(ds) * (scores.p_error[s] + (terms + 4) * kSumError) +
                            p * scale * difference_error + RoundingError(dtype, ds);
    for (size_t i = 0; i < at.head_dim(); ++i) {
      const auto add = [](Bounded& to, size_t index, double weight, double bound, double factor) {
        to.values[index] += weight * factor;
        to.bounds[index] += bound * std::abs(factor);
      };
      add(expected.dq, at.QueryAt(i), ds, ds_bound, at.Key(at.in.k, s, i));
      add(expected.dk, at.KeyAt(s, i), ds, ds_bound, at.Query(at.in.q, i));
      add(expected.dv, at.KeyAt(s, i), p, p_bound, at.Query(at.in.dout, i));
    }
  }
}

}  // namespace

ExpectedAttention PlainAttention(const Attention& in) {
  const size_t q_size = in.rows() * in.q_cols(), kv_size = in.rows() * in.kv_cols();
  ExpectedAttention expected{Bounded(q_size), Bounded(in.shape.num_heads * in.rows()),
                             Bounded(q_size), Bounded(kv_size), Bounded(kv_size)};
  for (size_t batch = 0; batch < in.shape.batch; ++batch) {
    for (size_t head = 0; head < in.shape.num_heads; ++head) {
      for (size_t t = 0; t < in.shape.seq_len; ++t) AddRow({in, batch, head, t}, expected);
    }
  }
  for (Bounded* gradients : {&expected.dq, &expected.dk, &expected.dv}) {
    for (size_t i = 0; i < gradients->values.size(); ++i)
      gradients->bounds[i] += RoundingError(in.q.dtype(), gradients->values[i]);
  }
  return expected;
}

}  // namespace strata::engine
