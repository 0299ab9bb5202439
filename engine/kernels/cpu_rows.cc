// The operations that work element by element or row by row.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "aio/base/check.h"
#include "engine/kernels/internal/cpu_kernels.h"
#include "engine/kernels/internal/shape_checks.h"

namespace strata::engine {

Status CpuKernels::RmsNormForward(const Stream&, const Matrix& x, const std::byte* weight,
                                  float eps, const Matrix& y) {
  CheckAlike(x, y);
  ForRows(x.rows, x.cols, [&](size_t row, size_t count) {
    rows_.rms_norm_forward({Rows(x, row, count), weight, eps}, Rows(y, row, count));
  });
  return OkStatus();
}

Status CpuKernels::RmsNormBackward(const Stream&, const Matrix& x, const std::byte* weight,
                                   float eps, const Matrix& dy, const Matrix& dx,
                                   float* weight_gradient, std::span<std::byte>) {
  CheckRmsNormBackward(x, dy, dx);
  // First dx, cut by rows, which leaves 1 / rms of each; then the weight's gradient, cut by columns
  // so that each is summed by one thread in the order of the rows.
  constexpr size_t kColsPerTile = 256;
  const Cuts row_cuts{x.rows, kRowsAtOnce};
  const Cuts col_cuts{x.cols, kColsPerTile};
  for (size_t part = 0; part < row_cuts.count(); ++part) {
    const Matrix x_part = Rows(x, row_cuts.begin(part), kRowsAtOnce);
    const Matrix dy_part = Rows(dy, row_cuts.begin(part), kRowsAtOnce);
    const Matrix dx_part = Rows(dx, row_cuts.begin(part), kRowsAtOnce);
    ForRows(x_part.rows, x.cols, [&](size_t row, size_t count) {
      rows_.rms_norm_backward({Rows(x_part, row, count), weight, eps}, Rows(dy_part, row, count),
                              Rows(dx_part, row, count), row_floats_.data() + row);
    });
    pool_.ParallelFor(col_cuts.count(), [&](size_t i) {
      const size_t col = col_cuts.begin(i);
      rows_.rms_norm_weight_gradient(Part(x_part, 0, x_part.rows, col, kColsPerTile),
                                     Part(dy_part, 0, x_part.rows, col, kColsPerTile),
                                     row_floats_.data(), weight_gradient + col);
    });
  }
  return OkStatus();
}

Status CpuKernels::Rope(const Stream&, const Matrix& x, size_t seq_len, size_t head_dim,
                        std::span<const float> inverse_frequency, float attention_factor,
                        int direction) {
  CheckRope(x, seq_len, head_dim, inverse_frequency, direction);
  ForRows(x.rows, x.cols, [&](size_t row, size_t count) {
    rows_.rope({.x = Rows(x, row, count),
                .first_position = row,
                .seq_len = seq_len,
                .head_dim = head_dim,
                .inverse_frequency = inverse_frequency.data(),
                .attention_factor = attention_factor,
                .sign = static_cast<float>(direction)});
  });
  return OkStatus();
}

Status CpuKernels::SwiGluForward(const Stream&, const Matrix& gate, const Matrix& up,
                                 const Matrix& out) {
  CheckAlike(gate, up);
  CheckAlike(gate, out);
  ForParts(gate.rows, gate.cols, [&](size_t row, size_t rows, size_t col, size_t cols) {
    const auto part = [&](const Matrix& matrix) { return Part(matrix, row, rows, col, cols); };
    rows_.swiglu_forward(part(gate), part(up), part(out));
  });
  return OkStatus();
}

Status CpuKernels::SwiGluBackward(const Stream&, const Matrix& gate, const Matrix& up,
                                  const Matrix& dout, const Matrix& dgate, const Matrix& dup) {
  for (const Matrix* other : {&up, &dout, &dgate, &dup}) CheckAlike(gate, *other);
  ForParts(gate.rows, gate.cols, [&](size_t row, size_t rows, size_t col, size_t cols) {
    const auto part = [&](const Matrix& matrix) { return Part(matrix, row, rows, col, cols); };
    rows_.swiglu_backward(part(gate), part(up), part(dout), part(dgate), part(dup));
  });
  return OkStatus();
}

Status CpuKernels::SoftmaxStatistics(const Stream&, const Matrix& logits,
                                     std::span<const int32_t> targets, size_t first_column,
                                     Output output, std::span<SoftmaxRow> rows) {
  CheckLogits(logits, targets, rows);
  ForRows(logits.rows, logits.cols, [&](size_t row, size_t count) {
    rows_.softmax_statistics({.logits = Rows(logits, row, count),
                              .targets = targets.data() + row,
                              .first_column = first_column},
                             output, rows.data() + row);
  });
  return OkStatus();
}

Status CpuKernels::CrossEntropy(const Stream&, const Matrix& logits,
                                std::span<const int32_t> targets, size_t first_column,
                                std::span<const SoftmaxRow> rows, float gradient_scale,
                                const Matrix& dlogits) {
  CheckSameShape(logits, dlogits);
  CheckLogits(logits, targets, rows);
  ForRows(logits.rows, logits.cols, [&](size_t row, size_t count) {
    rows_.cross_entropy({.logits = Rows(logits, row, count),
                         .targets = targets.data() + row,
                         .first_column = first_column},
                        rows.data() + row, gradient_scale, Rows(dlogits, row, count));
  });
  return OkStatus();
}

Status CpuKernels::CrossEntropyLoss(const Stream&, std::span<const int32_t> targets,
                                    std::span<const SoftmaxRow> rows, double* loss_sum) {
  STRATA_CHECK(targets.size() == rows.size());
  for (size_t row = 0; row < rows.size(); ++row) {
    if (targets[row] < 0) continue;
    const float shifted = rows[row].target - rows[row].maximum;
    *loss_sum += std::log(rows[row].sum) - static_cast<double>(shifted);
  }
  return OkStatus();
}

Status CpuKernels::EmbeddingForward(const Stream&, const Matrix& table, size_t first_id,
                                    std::span<const int32_t> ids, const Matrix& out) {
  CheckEmbeddingForward(table, ids, out);
  ForRows(out.rows, out.cols, [&](size_t row, size_t count) {
    for (size_t i = row; i < row + count; ++i) {
      STRATA_CHECK(ids[i] >= 0);
      const size_t id = static_cast<size_t>(ids[i]);
      if (id < first_id || id - first_id >= table.rows) continue;
      std::memcpy(Rows(out, i, 1).data, Rows(table, id - first_id, 1).data,
                  out.cols * SizeOf(out.dtype));
    }
  });
  return OkStatus();
}

Status CpuKernels::EmbeddingBackward(const Stream&, std::span<const int32_t> ids,
                                     const Matrix& dout, size_t first_id,
                                     const Matrix& table_gradient) {
  CheckEmbeddingBackward(ids, dout, table_gradient);
  // Cut by columns: an id that comes twice is added by one thread, in the order of the rows.
  const Cuts cuts{dout.cols, 128};
  pool_.ParallelFor(cuts.count(), [&](size_t i) {
    const auto columns = [&](const Matrix& matrix) {
      return Part(matrix, 0, matrix.rows, cuts.begin(i), cuts.piece);
    };
    rows_.scatter_add(ids.data(), first_id, columns(dout), columns(table_gradient));
  });
  return OkStatus();
}

Status CpuKernels::Add(const Stream&, const Matrix& a, const Matrix& b, const Matrix& out) {
  CheckAlike(a, b);
  CheckAlike(a, out);
  ForParts(a.rows, a.cols, [&](size_t row, size_t rows, size_t col, size_t cols) {
    const auto part = [&](const Matrix& matrix) { return Part(matrix, row, rows, col, cols); };
    rows_.add(part(a), part(b), part(out));
  });
  return OkStatus();
}

Status CpuKernels::Cast(const Stream&, const Matrix& from, const Matrix& to) {
  CheckSameShape(from, to);
  ForParts(from.rows, from.cols, [&](size_t row, size_t rows, size_t col, size_t cols) {
    rows_.cast(Part(from, row, rows, col, cols), Part(to, row, rows, col, cols));
  });
  return OkStatus();
}

Status CpuKernels::Zero(const Stream&, std::span<std::byte> bytes) {
  const Cuts cuts{bytes.size(), kTileElements * 16};
  pool_.ParallelFor(cuts.count(),
                    [&](size_t i) { std::memset(bytes.data() + cuts.begin(i), 0, cuts.size(i)); });
  return OkStatus();
}

}  // namespace strata::engine
