// Adam next to a loop that moves the same bytes and computes next to nothing: what the memory of
// this machine gives at this moment. Compare the two of one run, round by round
// (--benchmark_repetitions=9 --benchmark_enable_random_interleaving=true).
#include <benchmark/benchmark.h>

#include <vector>

#include "engine/kernels/thread_pool.h"
#include "engine/optimizer/adam.h"

namespace strata::engine {
namespace {

// Per element: master, m and v read and written, a bf16 gradient read, a bf16 weight written.
constexpr int64_t kBytesPerElement = 3 * 8 + 2 + 2;

struct State {
  explicit State(size_t n)
      : master(n, 0.5f), m(n, 0.1f), v(n, 0.2f), gradient(n, ToBf16(0.25f)), weight(n) {}
  AdamSlices Slices() {
    return {.master = reinterpret_cast<std::byte*>(master.data()),
            .m = reinterpret_cast<std::byte*>(m.data()),
            .v = reinterpret_cast<std::byte*>(v.data()),
            .gradient = reinterpret_cast<const std::byte*>(gradient.data()),
            .gradient_dtype = DType::kBf16,
            .weight = reinterpret_cast<std::byte*>(weight.data()),
            .num_elements = master.size()};
  }
  std::vector<float> master, m, v;
  std::vector<Bf16> gradient, weight;
};

void Count(benchmark::State& state, size_t n) {
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(n));
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(n) * kBytesPerElement);
}

void Adam(benchmark::State& state) {
  const auto n = static_cast<size_t>(state.range(0));
  State tensors(n);
  ThreadPool pool = ThreadPool::Create(static_cast<uint32_t>(state.range(1))).value();
  const AdamScalars scalars = MakeAdamScalars({}, 1e-4, 10, 1);
  for (auto _ : state) AdamStep(scalars, tensors.Slices(), pool);
  Count(state, n);
}

__attribute__((optimize("O3"))) void StreamPiece(State& tensors, size_t begin, size_t end) {
  float* __restrict a = tensors.master.data();
  float* __restrict b = tensors.m.data();
  float* __restrict c = tensors.v.data();
  const auto* __restrict g = reinterpret_cast<const uint16_t*>(tensors.gradient.data());
  auto* __restrict w = reinterpret_cast<uint16_t*>(tensors.weight.data());
  for (size_t i = begin; i < end; ++i) {
    a[i] *= 0.5f;
    b[i] *= 0.5f;
    c[i] *= 0.5f;
    w[i] = static_cast<uint16_t>(g[i] + 1);
  }
}

void AdamShapedStream(benchmark::State& state) {
  const auto n = static_cast<size_t>(state.range(0));
  constexpr size_t kPiece = 65536;
  State tensors(n);
  ThreadPool pool = ThreadPool::Create(static_cast<uint32_t>(state.range(1))).value();
  for (auto _ : state) {
    pool.ParallelFor(n / kPiece,
                     [&](size_t i) { StreamPiece(tensors, i * kPiece, (i + 1) * kPiece); });
  }
  Count(state, n);
}

// Far beyond the caches.
void Arguments(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"elements", "threads"})->UseRealTime();
  bench->Args({1 << 25, 1})->Args({1 << 25, 2});
}
BENCHMARK(Adam)->Apply(Arguments);
BENCHMARK(AdamShapedStream)->Apply(Arguments);

}  // namespace
}  // namespace strata::engine
