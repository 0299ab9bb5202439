// The operations that work element by element or row by row.
#include <algorithm>
#include <cstring>

#include "aio/base/check.h"
#include "engine/kernels/internal/cpu_kernels.h"

namespace strata::engine {
namespace {

void CheckSameShape(const Matrix& a, const Matrix& b) {
  STRATA_CHECK(a.rows == b.rows && a.cols == b.cols);
}
void CheckAlike(const Matrix& a, const Matrix& b) {
  CheckSameShape(a, b);
  STRATA_CHECK(a.dtype == b.dtype);
}

}  // namespace

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
                                   float* weight_gradient) {
  CheckAlike(x, dy);
  CheckSameShape(x, dx);
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
  STRATA_CHECK(direction == 1 || direction == -1);
  STRATA_CHECK(seq_len > 0 && head_dim > 0 && head_dim % 2 == 0 && x.cols % head_dim == 0);
  STRATA_CHECK(inverse_frequency.size() == head_dim / 2);
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

Status CpuKernels::CrossEntropy(const Stream&, const Matrix& logits,
                                std::span<const int32_t> targets, float gradient_scale,
                                const Matrix& dlogits, double* loss_sum) {
  CheckSameShape(logits, dlogits);
  STRATA_CHECK(logits.dtype == DType::kF32 && targets.size() == logits.rows && logits.cols > 0);
  for (const int32_t target : targets) {
    STRATA_CHECK(target < 0 || static_cast<size_t>(target) < logits.cols);
  }
  const Cuts cuts{logits.rows, kRowsAtOnce};
  for (size_t part = 0; part < cuts.count(); ++part) {
    const size_t begin = cuts.begin(part);
    ForRows(cuts.size(part), logits.cols, [&](size_t row, size_t count) {
      rows_.cross_entropy({.logits = Rows(logits, begin + row, count),
                           .targets = targets.data() + begin + row,
                           .gradient_scale = gradient_scale,
                           .dlogits = Rows(dlogits, begin + row, count),
                           .losses = row_doubles_.data() + row});
    });
    for (size_t row = 0; row < cuts.size(part); ++row) *loss_sum += row_doubles_[row];
  }
  return OkStatus();
}

Status CpuKernels::EmbeddingForward(const Stream&, const Matrix& table,
                                    std::span<const int32_t> ids, const Matrix& out) {
  STRATA_CHECK(table.dtype == out.dtype && table.cols == out.cols && ids.size() == out.rows);
  ForRows(out.rows, out.cols, [&](size_t row, size_t count) {
    for (size_t i = row; i < row + count; ++i) {
      STRATA_CHECK(ids[i] >= 0 && static_cast<size_t>(ids[i]) < table.rows);
      std::memcpy(Rows(out, i, 1).data, Rows(table, static_cast<size_t>(ids[i]), 1).data,
                  out.cols * SizeOf(out.dtype));
    }
  });
  return OkStatus();
}

Status CpuKernels::EmbeddingBackward(const Stream&, std::span<const int32_t> ids,
                                     const Matrix& dout, const Matrix& table_gradient) {
  STRATA_CHECK(table_gradient.dtype == DType::kF32 && table_gradient.cols == dout.cols);
  STRATA_CHECK(ids.size() == dout.rows);
  for (const int32_t id : ids) {
    STRATA_CHECK(id >= 0 && static_cast<size_t>(id) < table_gradient.rows);
  }
  // Cut by columns: an id that comes twice is added by one thread, in the order of the rows.
  const Cuts cuts{dout.cols, 128};
  pool_.ParallelFor(cuts.count(), [&](size_t i) {
    const auto columns = [&](const Matrix& matrix) {
      return Part(matrix, 0, matrix.rows, cuts.begin(i), cuts.piece);
    };
    rows_.scatter_add(ids.data(), columns(dout), columns(table_gradient));
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
