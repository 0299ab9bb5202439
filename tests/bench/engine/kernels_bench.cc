// The kernels at the sizes of a small Llama, next to what the machine gives: a product of ours next
// to one call of oneDNN for the whole product, on as many threads.
#include <benchmark/benchmark.h>
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <oneapi/dnnl/dnnl.hpp>
#include <vector>

#include "engine/kernels/cpu_kernels.h"

namespace strata::engine {
namespace {

const Kernels::Stream kStream{};

class Memory {
 public:
  Memory(DType dtype, size_t rows, size_t cols)
      : dtype_(dtype), rows_(rows), cols_(cols), floats_(rows * cols * SizeOf(dtype) / 4 + 32) {
    // Small numbers in either format.
    std::fill(floats_.begin(), floats_.end(), 0.01f);
  }
  Matrix view() {
    const auto address = reinterpret_cast<uintptr_t>(floats_.data());
    return DenseMatrix(reinterpret_cast<std::byte*>((address + 63) / 64 * 64), dtype_, rows_,
                       cols_);
  }

 private:
  DType dtype_;
  size_t rows_, cols_;
  std::vector<float> floats_;
};

enum Product : int64_t { kForward, kInputGradient, kWeightGradient };

struct Operands {
  Operands(const benchmark::State& state, DType dtype, size_t rows, size_t cols, size_t depth)
      : kind(static_cast<Product>(state.range(1))),
        ta(kind == kWeightGradient ? Transpose::kYes : Transpose::kNo),
        tb(kind == kForward ? Transpose::kYes : Transpose::kNo),
        a(dtype, ta == Transpose::kYes ? depth : rows, ta == Transpose::kYes ? rows : depth),
        b(dtype, tb == Transpose::kYes ? cols : depth, tb == Transpose::kYes ? depth : cols),
        out(DType::kF32, rows, cols) {}
  Product kind;
  Transpose ta, tb;
  Memory a, b, out;
};

// tokens x width, times width x hidden and what its backward needs.
struct Sizes {
  explicit Sizes(const benchmark::State& state) {
    const auto tokens = static_cast<size_t>(state.range(2));
    const auto width = static_cast<size_t>(state.range(3));
    const auto hidden = static_cast<size_t>(state.range(4));
    switch (static_cast<Product>(state.range(1))) {
      case kForward:
        rows = tokens, cols = hidden, depth = width;
        break;
      case kInputGradient:
        rows = tokens, cols = width, depth = hidden;
        break;
      case kWeightGradient:
        rows = hidden, cols = width, depth = tokens;
        break;
    }
  }
  double flops() const {
    return 2.0 * static_cast<double>(rows * cols) * static_cast<double>(depth);
  }
  size_t rows = 0, cols = 0, depth = 0;
};

void CountFlops(benchmark::State& state, double flops) {
  state.counters["GFLOP/s"] =
      benchmark::Counter(flops * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
}

DType DTypeOf(const benchmark::State& state) { return static_cast<DType>(state.range(0)); }

void MatMul(benchmark::State& state) {
  const Sizes sizes(state);
  Operands in(state, DTypeOf(state), sizes.rows, sizes.cols, sizes.depth);
  const auto kernels = MakeCpuKernels(static_cast<uint32_t>(state.range(5))).value();
  for (auto _ : state) {
    const Status status = kernels->MatMul(kStream, in.a.view(), in.ta, in.b.view(), in.tb,
                                          in.out.view(), Output::kOverwrite, {});
    if (!status.ok()) return state.SkipWithError(status.message().c_str());
  }
  CountFlops(state, sizes.flops());
}

dnnl::memory::desc Describe(const Matrix& matrix, Transpose transpose) {
  const auto rows = static_cast<dnnl::memory::dim>(matrix.rows);
  const auto cols = static_cast<dnnl::memory::dim>(matrix.cols);
  const auto type =
      matrix.dtype == DType::kF32 ? dnnl::memory::data_type::f32 : dnnl::memory::data_type::bf16;
  if (transpose == Transpose::kNo) return {{rows, cols}, type, dnnl::memory::dims{cols, 1}};
  return {{cols, rows}, type, dnnl::memory::dims{1, cols}};
}

void WholeByOneDnn(benchmark::State& state) {
  const bool has_bf16 = InstructionSets().back() == "avx512";  // the library
  if (DTypeOf(state) == DType::kBf16 && !has_bf16) return state.SkipWithError("no bf16 here");
  const Sizes sizes(state);
  Operands in(state, DTypeOf(state), sizes.rows, sizes.cols, sizes.depth);
  omp_set_num_threads(static_cast<int>(state.range(5)));
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  dnnl::stream stream(engine);
  const dnnl::matmul::desc operation(Describe(in.a.view(), in.ta), Describe(in.b.view(), in.tb),
                                     Describe(in.out.view(), Transpose::kNo));
  const dnnl::matmul::primitive_desc description(operation, engine);
  const dnnl::matmul product(description);
  const auto memory = [&](const dnnl::memory::desc& desc, Memory& of) {
    return dnnl::memory(desc, engine, of.view().data);
  };
  for (auto _ : state) {
    product.execute(stream, {{DNNL_ARG_SRC, memory(description.src_desc(), in.a)},
                             {DNNL_ARG_WEIGHTS, memory(description.weights_desc(), in.b)},
                             {DNNL_ARG_DST, memory(description.dst_desc(), in.out)}});
    stream.wait();
  }
  CountFlops(state, sizes.flops());
}

void ProductArguments(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"dtype", "product", "tokens", "width", "hidden", "threads"})->UseRealTime();
  for (const int64_t dtype : {0, 1}) {
    for (const int64_t product : {kForward, kInputGradient, kWeightGradient}) {
      for (const int64_t threads : {1, 2}) {
        bench->Args({dtype, product, 2048, 1024, 2816, threads});
        bench->Args({dtype, product, 512, 512, 512, threads});
        bench->Args({dtype, product, 256, 256, 704, threads});
      }
    }
  }
}
BENCHMARK(MatMul)->Apply(ProductArguments);
BENCHMARK(WholeByOneDnn)->Apply(ProductArguments);

struct AttentionOperands {
  AttentionOperands(const AttentionShape& shape, DType dtype)
      : q(dtype, shape.batch * shape.seq_len, shape.num_heads * shape.head_dim),
        k(dtype, shape.batch * shape.seq_len, shape.num_kv_heads * shape.head_dim),
        v(k),
        dk(k),
        dv(k),
        out(q),
        dout(q),
        dq(q),
        log_sum_exp(DType::kF32, shape.num_heads, shape.batch * shape.seq_len) {}
  Memory q, k, v, dk, dv, out, dout, dq, log_sum_exp;
};

// direction 0: forward, 1: backward. Flops counted: the products below the diagonal.
void Attention(benchmark::State& state) {
  const DType dtype = DTypeOf(state);
  const AttentionShape shape{1, static_cast<size_t>(state.range(2)), 16, 8,
                             static_cast<size_t>(state.range(3))};
  AttentionOperands in(shape, dtype);
  const auto kernels = MakeCpuKernels(static_cast<uint32_t>(state.range(4))).value();
  const size_t size_bytes = kernels->AttentionWorkspaceBytes(shape, dtype);
  Memory workspace(DType::kF32, 1, size_bytes / 4 + 1);
  const std::span<std::byte> bytes(workspace.view().data, size_bytes);
  auto* log_sum_exp = reinterpret_cast<float*>(in.log_sum_exp.view().data);
  const bool backward = state.range(1) == 1;
  for (auto _ : state) {
    const Status status =
        backward ? kernels->AttentionBackward(kStream, shape, in.q.view(), in.k.view(), in.v.view(),
                                              in.out.view(), log_sum_exp, in.dout.view(),
                                              in.dq.view(), in.dk.view(), in.dv.view(), bytes)
                 : kernels->AttentionForward(kStream, shape, in.q.view(), in.k.view(), in.v.view(),
                                             in.out.view(), log_sum_exp, bytes);
    if (!status.ok()) return state.SkipWithError(status.message().c_str());
  }
  const double pairs = static_cast<double>(shape.num_heads * shape.seq_len * shape.seq_len) / 2;
  CountFlops(state, pairs * static_cast<double>(shape.head_dim) * 2 * (backward ? 5 : 2));
}
BENCHMARK(Attention)
    ->ArgNames({"dtype", "backward", "seq_len", "head_dim", "threads"})
    ->ArgsProduct({{0, 1}, {0, 1}, {512, 1024, 2048}, {64, 128}, {1, 2}})
    ->UseRealTime();

void CountBytes(benchmark::State& state, size_t per_iteration) {
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(per_iteration));
}

void SwiGluForward(benchmark::State& state) {
  Memory gate(DTypeOf(state), 1024, 2816), up(gate), out(gate);
  const auto kernels = MakeCpuKernels(1).value();
  for (auto _ : state) {
    if (!kernels->SwiGluForward(kStream, gate.view(), up.view(), out.view()).ok()) return;
  }
  CountBytes(state, 3 * gate.view().size_bytes());
}
// What becomes of a unit's gradient: rounded, and its squares summed; in one pass, or by a cast and
// a sum after it (one_pass = 0).
void RoundAndSumSquares(benchmark::State& state) {
  constexpr size_t kElements = 16 << 20;
  const auto num_threads = static_cast<uint32_t>(state.range(0));
  const std::unique_ptr<Kernels> kernels = MakeCpuKernels(num_threads).value();
  Memory gradient(DType::kF32, 1, kElements), rounded(DType::kBf16, 1, kElements);
  const Matrix from = gradient.view(), to = rounded.view();
  double squares = 0;
  for (auto _ : state) {
    if (state.range(1) == 1) {
      (void)kernels->RoundAndSumSquares(kStream,
                                        {reinterpret_cast<const float*>(from.data), kElements},
                                        to.data, to.dtype, &squares, {});
    } else {
      (void)kernels->Cast(kStream, from, to);
      (void)kernels->SumOfSquares(kStream, {to.data, kElements * SizeOf(to.dtype)}, to.dtype,
                                  &squares, {});
    }
    benchmark::DoNotOptimize(squares);
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(kElements));
}
BENCHMARK(RoundAndSumSquares)
    ->ArgNames({"threads", "one_pass"})
    ->ArgsProduct({{1, 2}, {0, 1}})
    ->UseRealTime();

BENCHMARK(SwiGluForward)->ArgNames({"dtype"})->Arg(0)->Arg(1);

void RmsNormBackward(benchmark::State& state) {
  Memory x(DTypeOf(state), 1024, 1024), dy(x), dx(x), weight(DTypeOf(state), 1, 1024);
  Memory dweight(DType::kF32, 1, 1024);
  const auto kernels = MakeCpuKernels(1).value();
  for (auto _ : state) {
    const Status status =
        kernels->RmsNormBackward(kStream, x.view(), weight.view().data, 1e-5f, dy.view(), dx.view(),
                                 reinterpret_cast<float*>(dweight.view().data), {});
    if (!status.ok()) return state.SkipWithError(status.message().c_str());
  }
  CountBytes(state, 4 * x.view().size_bytes());
}
BENCHMARK(RmsNormBackward)->ArgNames({"dtype"})->Arg(0)->Arg(1);

void Rope(benchmark::State& state) {
  Memory x(DTypeOf(state), 1024, 1024);
  const std::vector<float> frequency(32, 0.1f);
  const auto kernels = MakeCpuKernels(1).value();
  for (auto _ : state) {
    if (!kernels->Rope(kStream, x.view(), 1024, 64, frequency, 1, 1).ok()) return;
  }
  CountBytes(state, 2 * x.view().size_bytes());
}
BENCHMARK(Rope)->ArgNames({"dtype"})->Arg(0)->Arg(1);

void CrossEntropy(benchmark::State& state) {
  Memory logits(DType::kF32, 128, 32000);
  const std::vector<int32_t> targets(128, 7);
  const auto kernels = MakeCpuKernels(1).value();
  std::vector<SoftmaxRow> rows(128);
  for (auto _ : state) {
    const Matrix x = logits.view();
    if (!kernels->SoftmaxStatistics(kStream, x, targets, 0, Output::kOverwrite, rows).ok()) return;
    if (!kernels->CrossEntropy(kStream, x, targets, 0, rows, 1, x).ok()) return;
  }
  CountBytes(state, 3 * logits.view().size_bytes());
}
BENCHMARK(CrossEntropy);

}  // namespace
}  // namespace strata::engine
