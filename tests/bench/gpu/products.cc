// How fast Kernels::MatMul is on the shapes of a Llama: forward, gradient of the input, gradient of
// the weight, each as the engine asks for it. For products_vs_torch.py, which puts torch.matmul
// beside each.
//
//   products_bench [--device cpu|cuda|cuda:N] [--tokens N] [--hidden N] [--intermediate N]
//                  [--vocab N] [--milliseconds N] [--json | --serve]
//
// --serve prints the list of products, then answers each line with an index into it by the seconds
// of one product, measured anew over --milliseconds of them.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "aio/base/units.h"
#include "engine/kernels/cpu_kernels.h"
#include "engine/kernels/cuda_kernels.h"
#include "engine/kernels/kernels.h"
#include "tiering/arena.h"
#include "tiering/cuda_device.h"
#include "tiering/device.h"

namespace strata::engine {
namespace {

struct Arguments {
  std::string device = "cuda";
  uint64_t tokens = 4096;
  uint64_t hidden = 4096;
  uint64_t intermediate = 11008;
  uint64_t vocab = 32000;
  uint64_t milliseconds = 50;
  bool json = false;
  bool serve = false;
};

// out [rows, cols] (+)= a [rows, depth] * b [depth, cols], either transposed in memory.
struct Product {
  std::string name;
  size_t rows = 0, cols = 0, depth = 0;
  Transpose transpose_a = Transpose::kNo, transpose_b = Transpose::kNo;
  DType out = DType::kBf16;
  Output output = Output::kOverwrite;

  double flop() const { return 2.0 * static_cast<double>(rows * cols * depth); }
  Matrix A(std::byte* data) const { return Operand(data, transpose_a, rows, depth); }
  Matrix B(std::byte* data) const { return Operand(data, transpose_b, depth, cols); }
  Matrix Out(std::byte* data) const { return DenseMatrix(data, out, rows, cols); }

 private:
  static Matrix Operand(std::byte* data, Transpose transpose, size_t rows, size_t cols) {
    if (transpose == Transpose::kYes) std::swap(rows, cols);
    return DenseMatrix(data, DType::kBf16, rows, cols);
  }
};

// y = x * weight' and its gradients: weights are [out, in] in memory, gradients of weights are
// added up in fp32. Logits are fp32, their gradient is bf16.
void AddLinear(const std::string& name, size_t tokens, size_t in, size_t out, DType y,
               std::vector<Product>& products) {
  products.push_back(
      {name + ".forward", tokens, out, in, Transpose::kNo, Transpose::kYes, y, Output::kOverwrite});
  products.push_back({name + ".input_gradient", tokens, in, out, Transpose::kNo, Transpose::kNo,
                      DType::kBf16, Output::kOverwrite});
  products.push_back({name + ".weight_gradient", out, in, tokens, Transpose::kYes, Transpose::kNo,
                      DType::kF32, Output::kAccumulate});
}

std::vector<Product> ProductsOf(const Arguments& a) {
  std::vector<Product> products;
  AddLinear("attention", a.tokens, a.hidden, a.hidden, DType::kBf16, products);
  AddLinear("mlp.up", a.tokens, a.hidden, a.intermediate, DType::kBf16, products);
  AddLinear("mlp.down", a.tokens, a.intermediate, a.hidden, DType::kBf16, products);
  AddLinear("head", a.tokens, a.hidden, a.vocab, DType::kF32, products);
  return products;
}

constexpr uint64_t kAlignmentBytes = 256;
constexpr uint64_t kChunkBytes = 8_MiB;

uint64_t OperandBytes(const Product& product) {
  return RoundUp(product.A(nullptr).size_bytes(), kAlignmentBytes) +
         RoundUp(product.B(nullptr).size_bytes(), kAlignmentBytes) +
         RoundUp(product.Out(nullptr).size_bytes(), kAlignmentBytes);
}

struct Machine {
  std::unique_ptr<tiering::Device> device;
  std::unique_ptr<Kernels> kernels;
};

Result<Machine> MakeMachine(const std::string& name, const std::vector<Product>& products) {
  uint64_t bytes = 0;
  for (const Product& product : products) bytes = std::max(bytes, OperandBytes(product));
  bytes = RoundUp(bytes, tiering::kSlotAlignmentBytes);
  Machine machine;
  if (name == "cpu") {
    STRATA_ASSIGN_OR_RETURN(machine.kernels,
                            MakeCpuKernels(std::max(1u, std::thread::hardware_concurrency())));
    bytes += machine.kernels->MatMulWorkspaceBytes();
    STRATA_ASSIGN_OR_RETURN(machine.device, tiering::CreateCpuDevice(bytes));
    return machine;
  }
  const uint32_t gpu = name == "cuda" ? 0 : static_cast<uint32_t>(std::stoul(name.substr(5)));
  STRATA_ASSIGN_OR_RETURN(machine.kernels, MakeCudaKernels(gpu));
  bytes += machine.kernels->MatMulWorkspaceBytes();
  STRATA_ASSIGN_OR_RETURN(machine.device, tiering::CreateCudaDevice(gpu, bytes));
  return machine;
}

// Random numbers of about 1 in all of the device's memory: on zeros a GPU is faster than it is.
Status FillAtRandom(tiering::Device& device, tiering::DeviceStream& stream) {
  STRATA_ASSIGN_OR_RETURN(const tiering::Arena host, tiering::Arena::Create("host", kChunkBytes));
  std::mt19937 random(1);
  std::uniform_real_distribution<float> uniform(-1, 1);
  auto* numbers = reinterpret_cast<Bf16*>(host.bytes().data());
  for (size_t i = 0; i < kChunkBytes / sizeof(Bf16); ++i) numbers[i] = ToBf16(uniform(random));
  const std::span<std::byte> memory = device.memory();
  for (size_t offset = 0; offset < memory.size(); offset += kChunkBytes) {
    const size_t length = std::min<size_t>(kChunkBytes, memory.size() - offset);
    stream.CopyIn(memory.subspan(offset, length), host.bytes().first(length));
  }
  return stream.Record().Wait();
}

class Bench {
 public:
  static Result<std::unique_ptr<Bench>> Create(const Arguments& arguments) {
    auto bench = std::make_unique<Bench>();
    bench->products_ = ProductsOf(arguments);
    bench->group_s_ = static_cast<double>(arguments.milliseconds) * 1e-3;
    STRATA_ASSIGN_OR_RETURN(bench->machine_, MakeMachine(arguments.device, bench->products_));
    bench->stream_ = bench->machine_.device->CreateStream("compute");
    STRATA_RETURN_IF_ERROR(FillAtRandom(*bench->machine_.device, *bench->stream_));
    return bench;
  }

  const std::vector<Product>& products() const { return products_; }

  // Of one product, over a group of them in a row.
  Result<double> Seconds(const Product& product) {
    STRATA_RETURN_IF_ERROR(Group(product, 2).status());  // warms up
    STRATA_ASSIGN_OR_RETURN(const double one_s, Group(product, 1));
    const double count = std::clamp(group_s_ / std::max(one_s, 1e-9), 1.0, 1e5);
    return Group(product, static_cast<uint64_t>(count));
  }

 private:
  // Seconds of one, by the device's own events.
  Result<double> Group(const Product& product, uint64_t count) {
    std::byte* data = machine_.device->memory().data();
    const Matrix a = product.A(data);
    data += RoundUp(a.size_bytes(), kAlignmentBytes);
    const Matrix b = product.B(data);
    data += RoundUp(b.size_bytes(), kAlignmentBytes);
    const Matrix out = product.Out(data);
    data += RoundUp(out.size_bytes(), kAlignmentBytes);
    const std::span<std::byte> workspace(data, machine_.kernels->MatMulWorkspaceBytes());

    const tiering::DeviceEvent begin = stream_->Record();
    for (uint64_t i = 0; i < count; ++i) {
      stream_->Launch([=, this, &product](const tiering::StreamContext& stream) {
        return machine_.kernels->MatMul(stream, a, product.transpose_a, b, product.transpose_b, out,
                                        product.output, workspace);
      });
    }
    const tiering::DeviceEvent end = stream_->Record();
    STRATA_RETURN_IF_ERROR(end.Wait());
    return std::chrono::duration<double>(end.time() - begin.time()).count() /
           static_cast<double>(count);
  }

  std::vector<Product> products_;
  double group_s_ = 0;
  Machine machine_;
  std::unique_ptr<tiering::DeviceStream> stream_;
};

std::string Describe(const Product& p) {
  return fmt::format(
      R"({{"name":"{}","rows":{},"cols":{},"depth":{},"transpose_a":{},"transpose_b":{},"out":"{}","accumulate":{},"flop":{:.0f}}})",
      p.name, p.rows, p.cols, p.depth, p.transpose_a == Transpose::kYes,
      p.transpose_b == Transpose::kYes, DTypeName(p.out), p.output == Output::kAccumulate,
      p.flop());
}

Status Serve(Bench& bench) {
  std::string list;
  for (const Product& product : bench.products())
    list += (list.empty() ? "" : ",") + Describe(product);
  fmt::print("[{}]\n", list);
  std::fflush(stdout);
  size_t index = 0;
  while (std::cin >> index) {
    if (index >= bench.products().size()) return InvalidArgument("there is no such product");
    STRATA_ASSIGN_OR_RETURN(const double seconds, bench.Seconds(bench.products()[index]));
    fmt::print("{:.9f}\n", seconds);
    std::fflush(stdout);
  }
  return OkStatus();
}

Status MeasureAll(Bench& bench, bool as_json) {
  std::string rows;
  for (const Product& product : bench.products()) {
    STRATA_ASSIGN_OR_RETURN(const double seconds, bench.Seconds(product));
    const double tflop_per_s = product.flop() / seconds / 1e12;
    rows += fmt::format(R"({}{{"name":"{}","seconds":{:.9f},"tflop_per_s":{:.4f}}})",
                        rows.empty() ? "" : ",", product.name, seconds, tflop_per_s);
    if (!as_json)
      fmt::print("{:26} {:10.6f} s {:9.3f} TFLOP/s\n", product.name, seconds, tflop_per_s);
  }
  if (as_json) fmt::print("{{\"rows\":[{}]}}\n", rows);
  return OkStatus();
}

bool IsDevice(const std::string& word) {
  if (word == "cpu" || word == "cuda") return true;
  return word.starts_with("cuda:") && word.size() > 5 && word.size() < 9 &&
         word.find_first_not_of("0123456789", 5) == std::string::npos;
}

bool SetNumber(const std::string& name, const std::string& word, Arguments& arguments) {
  char* end = nullptr;
  const uint64_t value = std::strtoull(word.c_str(), &end, 10);
  if (word.empty() || *end != '\0' || value == 0 || value > 1 << 20) return false;
  uint64_t* const target = name == "--tokens"         ? &arguments.tokens
                           : name == "--hidden"       ? &arguments.hidden
                           : name == "--intermediate" ? &arguments.intermediate
                           : name == "--vocab"        ? &arguments.vocab
                           : name == "--milliseconds" ? &arguments.milliseconds
                                                      : nullptr;
  if (target != nullptr) *target = value;
  return target != nullptr;
}

std::optional<Arguments> Parse(const std::vector<std::string>& words) {
  Arguments arguments;
  for (size_t i = 0; i < words.size(); ++i) {
    if (words[i] == "--json") {
      arguments.json = true;
    } else if (words[i] == "--serve") {
      arguments.serve = true;
    } else if (i + 1 == words.size()) {
      return std::nullopt;
    } else if (words[i] == "--device" && IsDevice(words[i + 1])) {
      arguments.device = words[++i];
    } else if (!SetNumber(words[i], words[i + 1], arguments)) {
      return std::nullopt;
    } else {
      ++i;
    }
  }
  return arguments;
}

Status Run(const Arguments& arguments) {
  STRATA_ASSIGN_OR_RETURN(const std::unique_ptr<Bench> bench, Bench::Create(arguments));
  return arguments.serve ? Serve(*bench) : MeasureAll(*bench, arguments.json);
}

int Main(const std::vector<std::string>& words) {
  const std::optional<Arguments> arguments = Parse(words);
  if (!arguments) {
    std::cerr << "usage: products_bench [--device cpu|cuda|cuda:N] [--tokens N] [--hidden N] "
                 "[--intermediate N] [--vocab N] [--milliseconds N] [--json | --serve]\n";
    return 2;
  }
  const Status status = Run(*arguments);
  if (status.ok()) return 0;
  std::cerr << "error: " << status.ToString() << "\n";
  return 1;
}

}  // namespace
}  // namespace strata::engine

int main(int argc, char** argv) { return strata::engine::Main({argv + 1, argv + argc}); }
