// Products and attention on a GPU at the sizes of a 7B Llama, in TFLOP/s: beside the GPU's peak,
// and beside what other programs reach with the same shapes.
#include <benchmark/benchmark.h>

#include <cmath>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "aio/base/units.h"
#include "engine/kernels/cuda_kernels.h"
#include "tiering/cuda_device.h"

namespace strata::engine {
namespace {

constexpr uint64_t kDeviceBytes = 4_GiB;
// Of one measurement: so long that beginning and waiting for it do not count.
constexpr int kLaunches = 20;

// A GPU's kernels, with memory full of numbers that are random: a GPU is faster on zeros.
class Gpu {
 public:
  static Result<std::unique_ptr<Gpu>> Start() {
    auto gpu = std::make_unique<Gpu>();
    STRATA_ASSIGN_OR_RETURN(gpu->device_, tiering::CreateCudaDevice(0, kDeviceBytes));
    STRATA_ASSIGN_OR_RETURN(gpu->kernels_, MakeCudaKernels(0));
    gpu->stream_ = gpu->device_->CreateStream("bench");
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    std::vector<Bf16> numbers(16_MiB / sizeof(Bf16));
    for (Bf16& number : numbers) number = ToBf16(normal(random));
    const std::span<std::byte> memory = gpu->device_->memory();
    const std::span<const std::byte> bytes = std::as_bytes(std::span(numbers));
    for (size_t at = 0; at + bytes.size() <= memory.size(); at += bytes.size())
      gpu->stream_->CopyIn(memory.subspan(at, bytes.size()), bytes);
    STRATA_RETURN_IF_ERROR(gpu->stream_->Record().Wait());
    return gpu;
  }

  Kernels& kernels() { return *kernels_; }
  // One run's memory: cut from the start on.
  void Rewind() { used_bytes_ = 0; }
  std::span<std::byte> Take(size_t size_bytes) {
    const std::span<std::byte> taken = device_->memory().subspan(used_bytes_, size_bytes);
    used_bytes_ = RoundUp(used_bytes_ + size_bytes, 256);
    return taken;
  }
  Matrix TakeMatrix(DType dtype, size_t rows, size_t cols) {
    return DenseMatrix(Take(rows * cols * SizeOf(dtype)).data(), dtype, rows, cols);
  }
  // Runs it so often, and waits.
  Status Run(int times, const std::function<Status(const Kernels::Stream&)>& function) {
    for (int i = 0; i < times; ++i) stream_->Launch(function);
    return stream_->Record().Wait();
  }

 private:
  std::unique_ptr<tiering::Device> device_;
  std::unique_ptr<Kernels> kernels_;
  std::unique_ptr<tiering::DeviceStream> stream_;
  size_t used_bytes_ = 0;
};

Gpu* TheGpu(benchmark::State& state) {
  static Result<std::unique_ptr<Gpu>> gpu = Gpu::Start();
  if (!gpu.ok()) {
    state.SkipWithError(gpu.status().message().c_str());
    return nullptr;
  }
  (*gpu)->Rewind();
  return gpu->get();
}

void Measure(benchmark::State& state, Gpu& gpu, double flops,
             const std::function<Status(const Kernels::Stream&)>& function) {
  Status status = gpu.Run(2, function);  // loads kernels, chooses algorithms
  for (auto _ : state) {
    if (status.ok()) status = gpu.Run(kLaunches, function);
    if (!status.ok()) return state.SkipWithError(status.message().c_str());
  }
  state.counters["TFLOP/s"] =
      benchmark::Counter(flops * kLaunches * 1e-12, benchmark::Counter::kIsIterationInvariantRate);
}

// Of y = x W^T with x [tokens, width] and W [hidden, width]: y, dx, and dW added to in fp32.
enum ProductKind : int64_t { kForward, kInputGradient, kWeightGradient };

void Product(benchmark::State& state) {
  Gpu* gpu = TheGpu(state);
  if (gpu == nullptr) return;
  const auto kind = static_cast<ProductKind>(state.range(0));
  const auto tokens = static_cast<size_t>(state.range(1));
  const auto width = static_cast<size_t>(state.range(2));
  const auto hidden = static_cast<size_t>(state.range(3));
  const Matrix x = gpu->TakeMatrix(DType::kBf16, tokens, width);
  const Matrix y = gpu->TakeMatrix(DType::kBf16, tokens, hidden);
  const Matrix weight = gpu->TakeMatrix(DType::kBf16, hidden, width);
  const Matrix gradient = gpu->TakeMatrix(DType::kF32, hidden, width);
  const std::span<std::byte> workspace = gpu->Take(gpu->kernels().MatMulWorkspaceBytes());
  const auto multiply = [&](const Kernels::Stream& stream) {
    switch (kind) {
      case kForward:
        return gpu->kernels().MatMul(stream, x, Transpose::kNo, weight, Transpose::kYes, y,
                                     Output::kOverwrite, workspace);
      case kInputGradient:
        return gpu->kernels().MatMul(stream, y, Transpose::kNo, weight, Transpose::kNo, x,
                                     Output::kOverwrite, workspace);
      case kWeightGradient:
        break;
    }
    return gpu->kernels().MatMul(stream, y, Transpose::kYes, x, Transpose::kNo, gradient,
                                 Output::kAccumulate, workspace);
  };
  Measure(state, *gpu, 2.0 * static_cast<double>(tokens * width) * static_cast<double>(hidden),
          multiply);
}
// Attention's and the mlp's of a 7B Llama, and its head's.
BENCHMARK(Product)
    ->ArgNames({"kind", "tokens", "width", "hidden"})
    ->ArgsProduct({{kForward, kInputGradient, kWeightGradient}, {512, 4096}, {4096}, {4096, 11008}})
    ->ArgsProduct({{kForward, kInputGradient, kWeightGradient}, {512, 4096}, {11008}, {4096}})
    ->ArgsProduct({{kForward, kInputGradient, kWeightGradient}, {512}, {4096}, {32000}})
    ->UseRealTime();

struct AttentionOperands {
  AttentionOperands(Gpu& gpu, const benchmark::State& state)
      : shape{.batch = 1,
              .seq_len = static_cast<size_t>(state.range(0)),
              .num_heads = static_cast<size_t>(4096 / state.range(1)),
              .num_kv_heads = static_cast<size_t>(state.range(2)),
              .head_dim = static_cast<size_t>(state.range(1))},
        q(Queries(gpu)),
        k(Keys(gpu)),
        v(Keys(gpu)),
        out(Queries(gpu)),
        dout(Queries(gpu)),
        dq(Queries(gpu)),
        dk(Keys(gpu)),
        dv(Keys(gpu)),
        log_sum_exp(reinterpret_cast<float*>(
            gpu.Take(shape.num_heads * shape.seq_len * sizeof(float)).data())),
        workspace(gpu.Take(gpu.kernels().AttentionWorkspaceBytes(shape, DType::kBf16))) {}

  // Two products of scores, over the keys that a query sees.
  double forward_flops() const {
    const double seen =
        static_cast<double>(shape.seq_len) * (static_cast<double>(shape.seq_len) + 1) / 2;
    return 4 * seen * static_cast<double>(shape.num_heads * shape.head_dim);
  }
  Status Forward(Kernels& kernels, const Kernels::Stream& stream) const {
    return kernels.AttentionForward(stream, shape, q, k, v, out, log_sum_exp, workspace);
  }
  Status Backward(Kernels& kernels, const Kernels::Stream& stream) const {
    return kernels.AttentionBackward(stream, shape, q, k, v, out, log_sum_exp, dout, dq, dk, dv,
                                     workspace);
  }

  Matrix Queries(Gpu& gpu) const {
    return gpu.TakeMatrix(DType::kBf16, shape.seq_len, shape.num_heads * shape.head_dim);
  }
  Matrix Keys(Gpu& gpu) const {
    return gpu.TakeMatrix(DType::kBf16, shape.seq_len, shape.num_kv_heads * shape.head_dim);
  }

  AttentionShape shape;
  Matrix q, k, v, out, dout, dq, dk, dv;
  float* log_sum_exp;
  std::span<std::byte> workspace;
};

void AttentionForward(benchmark::State& state) {
  Gpu* gpu = TheGpu(state);
  if (gpu == nullptr) return;
  const AttentionOperands operands(*gpu, state);
  Measure(state, *gpu, operands.forward_flops(),
          [&](const Kernels::Stream& stream) { return operands.Forward(gpu->kernels(), stream); });
}

// Counted as five products, as others count it; ours makes seven.
void AttentionBackward(benchmark::State& state) {
  Gpu* gpu = TheGpu(state);
  if (gpu == nullptr) return;
  const AttentionOperands operands(*gpu, state);
  const Status forward = gpu->Run(
      1, [&](const Kernels::Stream& stream) { return operands.Forward(gpu->kernels(), stream); });
  if (!forward.ok()) return state.SkipWithError(forward.message().c_str());
  Measure(state, *gpu, operands.forward_flops() * 2.5,
          [&](const Kernels::Stream& stream) { return operands.Backward(gpu->kernels(), stream); });
}

void AttentionArguments(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"seq_len", "head_dim", "kv_heads"})
      ->ArgsProduct({{1024, 4096, 16384}, {64, 128}, {8}})
      ->Args({4096, 128, 32})
      ->UseRealTime();
}
BENCHMARK(AttentionForward)->Apply(AttentionArguments);
BENCHMARK(AttentionBackward)->Apply(AttentionArguments);

}  // namespace
}  // namespace strata::engine
