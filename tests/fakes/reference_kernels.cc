#include "tests/fakes/reference_kernels.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

namespace strata::fakes {
namespace {

using engine::AttentionShape;
using engine::Bf16;
using engine::DType;
using engine::Matrix;
using engine::Output;
using engine::Transpose;

double Load(const Matrix& matrix, size_t row, size_t col) {
  const size_t index = row * matrix.stride + col;
  if (matrix.dtype == DType::kF32) return reinterpret_cast<const float*>(matrix.data)[index];
  if (matrix.dtype == DType::kF16)
    return engine::FromHalf(reinterpret_cast<const engine::F16*>(matrix.data)[index]);
  return engine::FromBf16(reinterpret_cast<const Bf16*>(matrix.data)[index]);
}

void Store(const Matrix& matrix, size_t row, size_t col, double value) {
  const size_t index = row * matrix.stride + col;
  const float rounded = static_cast<float>(value);
  if (matrix.dtype == DType::kF32) {
    reinterpret_cast<float*>(matrix.data)[index] = rounded;
  } else if (matrix.dtype == DType::kF16) {
    reinterpret_cast<engine::F16*>(matrix.data)[index] = engine::ToHalf(rounded);
  } else {
    reinterpret_cast<Bf16*>(matrix.data)[index] = engine::ToBf16(rounded);
  }
}

// What an operation may do to its workspace.
void UseUp(std::span<std::byte> workspace, size_t needed_bytes) {
  STRATA_CHECK(workspace.size() == needed_bytes);
  STRATA_CHECK(reinterpret_cast<uintptr_t>(workspace.data()) % 256 == 0);
  std::memset(workspace.data(), 0xff, workspace.size());
}

void Increase(const Matrix& matrix, size_t row, size_t col, double value) {
  Store(matrix, row, col, Load(matrix, row, col) + value);
}

template <typename Function>
void ForEach(const Matrix& matrix, Function&& function) {
  for (size_t row = 0; row < matrix.rows; ++row) {
    for (size_t col = 0; col < matrix.cols; ++col) function(row, col);
  }
}

// A vector of weights as a matrix of one row.
Matrix Row(const std::byte* data, DType dtype, size_t cols) {
  return DenseMatrix(const_cast<std::byte*>(data), dtype, 1, cols);
}

double Sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

double InverseRms(const Matrix& x, size_t row, float eps) {
  double sum = 0;
  for (size_t col = 0; col < x.cols; ++col) sum += Load(x, row, col) * Load(x, row, col);
  return 1 / std::sqrt(sum / static_cast<double>(x.cols) + static_cast<double>(eps));
}

// One head of one sequence: where its queries and keys are.
struct Head {
  size_t first_row, query_col, key_col, head_dim;
  double scale;
};

template <typename Function>
void ForEachHead(const AttentionShape& shape, Function&& function) {
  for (size_t b = 0; b < shape.batch; ++b) {
    for (size_t h = 0; h < shape.num_heads; ++h) {
      const size_t kv_head = h / (shape.num_heads / shape.num_kv_heads);
      function(h, Head{b * shape.seq_len, h * shape.head_dim, kv_head * shape.head_dim,
                       shape.head_dim, 1 / std::sqrt(static_cast<double>(shape.head_dim))});
    }
  }
}

// a[row of head, columns from a_col] . b[...]
double Dot(const Head& head, const Matrix& a, size_t a_row, size_t a_col, const Matrix& b,
           size_t b_row, size_t b_col) {
  double sum = 0;
  for (size_t i = 0; i < head.head_dim; ++i) {
    sum += Load(a, head.first_row + a_row, a_col + i) * Load(b, head.first_row + b_row, b_col + i);
  }
  return sum;
}

// Scores of query t with the keys 0..t.
std::vector<double> Scores(const Head& head, const Matrix& q, const Matrix& k, size_t t) {
  std::vector<double> scores(t + 1);
  for (size_t s = 0; s <= t; ++s) {
    scores[s] = head.scale * Dot(head, q, t, head.query_col, k, s, head.key_col);
  }
  return scores;
}

double LogSumExp(const std::vector<double>& values) {
  const double max = *std::ranges::max_element(values);
  double sum = 0;
  for (double value : values) sum += std::exp(value - max);
  return max + std::log(sum);
}

// Gradients in fp64 until all heads that share a key have been added.
struct AttentionGradients {
  std::vector<double> dq, dk, dv;
};

void AddHeadGradients(const Head& head, size_t seq_len, const Matrix& q, const Matrix& k,
                      const Matrix& v, const Matrix& out, const Matrix& dout,
                      AttentionGradients& sums) {
  for (size_t t = 0; t < seq_len; ++t) {
    const std::vector<double> scores = Scores(head, q, k, t);
    const double log_sum = LogSumExp(scores);
    const double delta = Dot(head, dout, t, head.query_col, out, t, head.query_col);
    const size_t row = head.first_row + t;
    for (size_t s = 0; s <= t; ++s) {
      const size_t key_row = head.first_row + s;
      const double p = std::exp(scores[s] - log_sum);
      const double dp = Dot(head, dout, t, head.query_col, v, s, head.key_col);
      const double dscore = p * (dp - delta) * head.scale;
      for (size_t i = 0; i < head.head_dim; ++i) {
        sums.dv[key_row * v.cols + head.key_col + i] += p * Load(dout, row, head.query_col + i);
        sums.dk[key_row * k.cols + head.key_col + i] += dscore * Load(q, row, head.query_col + i);
        sums.dq[row * q.cols + head.query_col + i] += dscore * Load(k, key_row, head.key_col + i);
      }
    }
  }
}

class ReferenceKernels final : public engine::Kernels {
 public:
  // Few and odd: a model's results must not hang on it.
  engine::RowsAtOnce rows_at_once() const override { return {7, 1, 5}; }
  // Of no use to plain loops. Who calls has to hand it over, and lose what is in it.
  size_t MatMulWorkspaceBytes() const override { return 1000; }
  size_t TwoPassWorkspaceBytes() const override { return 600; }
  Status MatMul(const Stream&, const Matrix& a, Transpose transpose_a, const Matrix& b,
                Transpose transpose_b, const Matrix& out, Output output,
                std::span<std::byte> workspace) override {
    UseUp(workspace, MatMulWorkspaceBytes());
    const bool a_flipped = transpose_a == Transpose::kYes;
    const bool b_flipped = transpose_b == Transpose::kYes;
    const size_t inner = a_flipped ? a.rows : a.cols;
    STRATA_CHECK(inner == (b_flipped ? b.cols : b.rows));
    STRATA_CHECK(out.rows == (a_flipped ? a.cols : a.rows));
    STRATA_CHECK(out.cols == (b_flipped ? b.rows : b.cols));
    STRATA_CHECK(output == Output::kOverwrite || out.dtype == DType::kF32);
    ForEach(out, [&](size_t row, size_t col) {
      double sum = output == Output::kAccumulate ? Load(out, row, col) : 0;
      for (size_t i = 0; i < inner; ++i) {
        sum += (a_flipped ? Load(a, i, row) : Load(a, row, i)) *
               (b_flipped ? Load(b, col, i) : Load(b, i, col));
      }
      Store(out, row, col, sum);
    });
    return OkStatus();
  }

  Status RmsNormForward(const Stream&, const Matrix& x, const std::byte* weight, float eps,
                        const Matrix& y) override {
    const Matrix w = Row(weight, x.dtype, x.cols);
    for (size_t row = 0; row < x.rows; ++row) {
      const double scale = InverseRms(x, row, eps);
      for (size_t col = 0; col < x.cols; ++col) {
        Store(y, row, col, Load(x, row, col) * scale * Load(w, 0, col));
      }
    }
    return OkStatus();
  }

  Status RmsNormBackward(const Stream&, const Matrix& x, const std::byte* weight, float eps,
                         const Matrix& dy, const Matrix& dx, float* weight_gradient,
                         std::span<std::byte> workspace) override {
    UseUp(workspace, TwoPassWorkspaceBytes());
    STRATA_CHECK(dy.dtype == x.dtype && dx.dtype == x.dtype);
    const Matrix w = Row(weight, x.dtype, x.cols);
    std::vector<double> dw(weight_gradient, weight_gradient + x.cols);
    for (size_t row = 0; row < x.rows; ++row) {
      const double scale = InverseRms(x, row, eps);
      double dot = 0;  // of x and d(loss)/d(x * scale)
      for (size_t col = 0; col < x.cols; ++col) {
        dot += Load(x, row, col) * Load(dy, row, col) * Load(w, 0, col);
      }
      const double pull = dot * scale * scale * scale / static_cast<double>(x.cols);
      for (size_t col = 0; col < x.cols; ++col) {
        dw[col] += Load(dy, row, col) * Load(x, row, col) * scale;
        Increase(dx, row, col,
                 Load(dy, row, col) * Load(w, 0, col) * scale - Load(x, row, col) * pull);
      }
    }
    std::ranges::copy(dw, weight_gradient);
    return OkStatus();
  }

  Status Rope(const Stream&, const Matrix& x, size_t seq_len, size_t head_dim,
              std::span<const float> inverse_frequency, float attention_factor,
              int direction) override {
    const size_t half = head_dim / 2;
    ForEach(Matrix{x.data, x.dtype, x.rows, x.cols / 2, x.stride}, [&](size_t row, size_t pair) {
      const size_t col = pair / half * head_dim + pair % half;
      // The angle is an fp32 product in transformers, too.
      const float angle = static_cast<float>(row % seq_len) * inverse_frequency[pair % half];
      const double cosine = std::cos(static_cast<double>(angle)) * attention_factor;
      const double sine = std::sin(static_cast<double>(angle)) * attention_factor * direction;
      const double first = Load(x, row, col), second = Load(x, row, col + half);
      Store(x, row, col, first * cosine - second * sine);
      Store(x, row, col + half, second * cosine + first * sine);
    });
    return OkStatus();
  }

  size_t AttentionWorkspaceBytes(const AttentionShape&, DType) const override { return 0; }

  Status AttentionForward(const Stream&, const AttentionShape& shape, const Matrix& q,
                          const Matrix& k, const Matrix& v, const Matrix& out, float* log_sum_exp,
                          std::span<std::byte>) override {
    ForEachHead(shape, [&](size_t h, const Head& head) {
      for (size_t t = 0; t < shape.seq_len; ++t) {
        const std::vector<double> scores = Scores(head, q, k, t);
        const double log_sum = LogSumExp(scores);
        log_sum_exp[h * q.rows + head.first_row + t] = static_cast<float>(log_sum);
        for (size_t i = 0; i < head.head_dim; ++i) {
          double sum = 0;
          for (size_t s = 0; s <= t; ++s) {
            sum += std::exp(scores[s] - log_sum) * Load(v, head.first_row + s, head.key_col + i);
          }
          Store(out, head.first_row + t, head.query_col + i, sum);
        }
      }
    });
    return OkStatus();
  }

  Status AttentionBackward(const Stream&, const AttentionShape& shape, const Matrix& q,
                           const Matrix& k, const Matrix& v, const Matrix& out,
                           const float* /*log_sum_exp*/, const Matrix& dout, const Matrix& dq,
                           const Matrix& dk, const Matrix& dv, std::span<std::byte>) override {
    AttentionGradients sums;
    sums.dq.resize(q.rows * q.cols);
    sums.dk.resize(k.rows * k.cols);
    sums.dv.resize(v.rows * v.cols);
    ForEachHead(shape, [&](size_t, const Head& head) {
      AddHeadGradients(head, shape.seq_len, q, k, v, out, dout, sums);
    });
    ForEach(dq, [&](size_t row, size_t col) { Store(dq, row, col, sums.dq[row * q.cols + col]); });
    ForEach(dk, [&](size_t row, size_t col) { Store(dk, row, col, sums.dk[row * k.cols + col]); });
    ForEach(dv, [&](size_t row, size_t col) { Store(dv, row, col, sums.dv[row * v.cols + col]); });
    return OkStatus();
  }

  Status SwiGluForward(const Stream&, const Matrix& gate, const Matrix& up,
                       const Matrix& out) override {
    ForEach(out, [&](size_t row, size_t col) {
      const double g = Load(gate, row, col);
      Store(out, row, col, g * Sigmoid(g) * Load(up, row, col));
    });
    return OkStatus();
  }

  Status SwiGluBackward(const Stream&, const Matrix& gate, const Matrix& up, const Matrix& dout,
                        const Matrix& dgate, const Matrix& dup) override {
    ForEach(dout, [&](size_t row, size_t col) {
      const double g = Load(gate, row, col), u = Load(up, row, col), d = Load(dout, row, col);
      const double sigmoid = Sigmoid(g);
      Store(dgate, row, col, d * u * sigmoid * (1 + g * (1 - sigmoid)));
      Store(dup, row, col, d * g * sigmoid);
    });
    return OkStatus();
  }

  Status SoftmaxStatistics(const Stream&, const Matrix& logits, std::span<const int32_t> targets,
                           size_t first_column, engine::Output output,
                           std::span<engine::SoftmaxRow> rows) override {
    for (size_t row = 0; row < logits.rows; ++row) {
      std::vector<double> values(logits.cols);
      for (size_t col = 0; col < logits.cols; ++col) values[col] = Load(logits, row, col);
      double sum = LogSumExp(values);
      engine::SoftmaxRow& result = rows[row];
      if (output == engine::Output::kAccumulate) sum = LogSumExp({sum, std::log(result.sum)});
      // The maximum is 0 for all rows: doubles of ordinary logits need none.
      result.sum = std::exp(sum);
      result.maximum = 0;
      const auto target = static_cast<size_t>(targets[row]) - first_column;
      if (targets[row] >= 0 && target < logits.cols) {
        result.target = static_cast<float>(values[target]);
      }
    }
    return OkStatus();
  }

  Status CrossEntropy(const Stream&, const Matrix& logits, std::span<const int32_t> targets,
                      size_t first_column, std::span<const engine::SoftmaxRow> rows,
                      float gradient_scale, const Matrix& dlogits) override {
    ForEach(dlogits, [&](size_t row, size_t col) {
      const bool counts = targets[row] >= 0;
      const bool is_target = counts && first_column + col == static_cast<size_t>(targets[row]);
      const double p = std::exp(Load(logits, row, col)) / rows[row].sum - (is_target ? 1 : 0);
      Store(dlogits, row, col, counts ? p * static_cast<double>(gradient_scale) : 0);
    });
    return OkStatus();
  }

  Status CrossEntropyLoss(const Stream&, std::span<const int32_t> targets,
                          std::span<const engine::SoftmaxRow> rows, double* loss_sum) override {
    for (size_t row = 0; row < rows.size(); ++row) {
      if (targets[row] < 0) continue;
      *loss_sum += std::log(rows[row].sum) - static_cast<double>(rows[row].target);
    }
    return OkStatus();
  }

  Status EmbeddingForward(const Stream&, const Matrix& table, size_t first_id,
                          std::span<const int32_t> ids, const Matrix& out) override {
    ForEach(out, [&](size_t row, size_t col) {
      const size_t id = static_cast<size_t>(ids[row]) - first_id;
      if (id < table.rows) Store(out, row, col, Load(table, id, col));
    });
    return OkStatus();
  }

  Status EmbeddingBackward(const Stream&, std::span<const int32_t> ids, const Matrix& dout,
                           size_t first_id, const Matrix& table_gradient) override {
    ForEach(dout, [&](size_t row, size_t col) {
      const size_t id = static_cast<size_t>(ids[row]) - first_id;
      if (id < table_gradient.rows) Increase(table_gradient, id, col, Load(dout, row, col));
    });
    return OkStatus();
  }

  Status Add(const Stream&, const Matrix& a, const Matrix& b, const Matrix& out) override {
    ForEach(out, [&](size_t row, size_t col) {
      Store(out, row, col, Load(a, row, col) + Load(b, row, col));
    });
    return OkStatus();
  }

  Status Cast(const Stream&, const Matrix& from, const Matrix& to) override {
    ForEach(to, [&](size_t row, size_t col) { Store(to, row, col, Load(from, row, col)); });
    return OkStatus();
  }

  Status RoundAndSumSquares(const Stream& stream, std::span<const float> from, std::byte* to,
                            DType dtype, double* squares, std::span<std::byte> workspace) override {
    UseUp(workspace, TwoPassWorkspaceBytes());
    // As Matrix is for outputs, too, it points to mutable data.
    auto* data = reinterpret_cast<std::byte*>(const_cast<float*>(from.data()));
    const Matrix rounded = DenseMatrix(to, dtype, 1, from.size());
    *squares = 0;
    STRATA_RETURN_IF_ERROR(Cast(stream, DenseMatrix(data, DType::kF32, 1, from.size()), rounded));
    ForEach(rounded, [&](size_t row, size_t col) {
      *squares += Load(rounded, row, col) * Load(rounded, row, col);
    });
    return OkStatus();
  }

  Status SumOfSquares(const Stream&, std::span<const std::byte> numbers, DType dtype,
                      double* squares, std::span<std::byte> workspace) override {
    UseUp(workspace, TwoPassWorkspaceBytes());
    // As Matrix is for outputs, too, it points to mutable data.
    const Matrix row = DenseMatrix(const_cast<std::byte*>(numbers.data()), dtype, 1,
                                   numbers.size() / SizeOf(dtype));
    *squares = 0;
    ForEach(row, [&](size_t r, size_t col) { *squares += Load(row, r, col) * Load(row, r, col); });
    return OkStatus();
  }

  Status Zero(const Stream&, std::span<std::byte> bytes) override {
    std::memset(bytes.data(), 0, bytes.size());
    return OkStatus();
  }
};

}  // namespace

std::unique_ptr<engine::Kernels> MakeReferenceKernels() {
  return std::make_unique<ReferenceKernels>();
}

}  // namespace strata::fakes
