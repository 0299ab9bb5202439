// One attention with its operands, outputs poisoned; and the same in plain loops, with how far each
// number may be off.
#pragma once

#include <vector>

#include "tests/engine/kernels/bounded.h"

namespace strata::engine {

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

  // All that was computed.
  bool SameBits(const Attention& other) const {
    return out.SameBits(other.out) && log_sum_exp.SameBits(other.log_sum_exp) &&
           dq.SameBits(other.dq) && dk.SameBits(other.dk) && dv.SameBits(other.dv);
  }

  AttentionShape shape;
  TestMatrix q, k, v, dout, out, dq, dk, dv, log_sum_exp;
  std::vector<TestMatrix> workspace;
};

struct ExpectedAttention {
  Bounded out, log_sum_exp, dq, dk, dv;
};

// In fp64. Bounds are first-order: numbers of 16 bits are rounded where kernels.h says so (inputs
// of products, results), sums of fp32 are off by a few units per term in whatever order they are
// made, and an exponential by as much as its argument.
ExpectedAttention PlainAttention(const Attention& in);

}  // namespace strata::engine
