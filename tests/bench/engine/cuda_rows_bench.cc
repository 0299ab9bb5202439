// The CUDA kernels that work row by row, beside a copy on the same GPU: what part of the speed that
// memory allows does the arithmetic leave? Shapes are those of a micro-batch of a 7B model; bytes
// are what an operation must read and write once (of the embedding's gradient, a row per token).
//
//   cuda_rows_bench [--tokens N] [--hidden N] [--intermediate N] [--vocab N] [--rounds N] [--json]
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <iostream>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "aio/base/units.h"
#include "engine/kernels/cuda_kernels.h"
#include "tiering/cuda_device.h"

namespace strata::engine {
namespace {

struct Arguments {
  uint64_t tokens = 8192, hidden = 4096, intermediate = 11008, vocab = 32000;
  uint64_t rounds = 7;
  bool json = false;
};

std::optional<Arguments> Parse(const std::vector<std::string>& words) {
  Arguments arguments;
  const std::pair<std::string, uint64_t*> numbers[] = {{"--tokens", &arguments.tokens},
                                                       {"--hidden", &arguments.hidden},
                                                       {"--intermediate", &arguments.intermediate},
                                                       {"--vocab", &arguments.vocab},
                                                       {"--rounds", &arguments.rounds}};
  for (size_t i = 0; i < words.size(); ++i) {
    const auto number = std::find_if(std::begin(numbers), std::end(numbers),
                                     [&](const auto& pair) { return pair.first == words[i]; });
    if (words[i] == "--json") {
      arguments.json = true;
    } else if (number != std::end(numbers) && i + 1 < words.size()) {
      *number->second = std::strtoull(words[++i].c_str(), nullptr, 10);
    } else {
      return std::nullopt;
    }
  }
  const bool is_right = std::all_of(std::begin(numbers), std::end(numbers),
                                    [](const auto& pair) { return *pair.second > 0; });
  return is_right && arguments.hidden % 128 == 0 ? std::optional(arguments) : std::nullopt;
}

// Cuts a device's memory. What is cut twice shares its place: operations are measured one by one.
class Layout {
 public:
  explicit Layout(std::span<std::byte> memory) : memory_(memory) {}

  Matrix Take(DType dtype, uint64_t rows, uint64_t cols) {
    return DenseMatrix(Bytes(rows * cols * SizeOf(dtype)).data(), dtype, rows, cols);
  }
  std::span<std::byte> Bytes(uint64_t size_bytes) {
    const uint64_t begin = used_bytes_;
    used_bytes_ = RoundUp(begin + size_bytes, 256);
    peak_bytes_ = std::max(peak_bytes_, used_bytes_);
    return memory_.empty() ? memory_ : memory_.subspan(begin, size_bytes);
  }
  template <typename T>
  std::span<T> Numbers(uint64_t count) {
    return {reinterpret_cast<T*>(Bytes(count * sizeof(T)).data()), count};
  }
  void Rewind() { used_bytes_ = 0; }
  uint64_t peak_bytes() const { return peak_bytes_; }

 private:
  std::span<std::byte> memory_;
  uint64_t used_bytes_ = 0, peak_bytes_ = 0;
};

using Stream = Kernels::Stream;

struct Operation {
  std::string name;
  double bytes = 0;  // read and written
  std::function<Status(const Stream&)> run;
};

// On no memory, only their sizes count.
std::vector<Operation> OperationsOn(std::span<std::byte> memory, const Arguments& a,
                                    Kernels& kernels, std::span<int32_t>* ids,
                                    uint64_t* needed_bytes) {
  Layout layout(memory);
  constexpr DType kBf16 = DType::kBf16, kF32 = DType::kF32;
  std::vector<Operation> all;
  // What operations share.
  *ids = layout.Numbers<int32_t>(a.tokens);
  const std::span<int32_t> tokens = *ids;
  const std::span<std::byte> workspace = layout.Bytes(kernels.TwoPassWorkspaceBytes());
  const std::span<double> number = layout.Numbers<double>(1);
  const auto h = [&](DType dtype) { return layout.Take(dtype, a.tokens, a.hidden); };
  const auto m = [&] { return layout.Take(kBf16, a.tokens, a.intermediate); };
  const double hidden = static_cast<double>(a.tokens * a.hidden);
  const double wide = static_cast<double>(a.tokens * a.intermediate);
  const auto add = [&](const std::string& name, double bytes, auto run) {
    all.push_back({name, bytes, run});
  };
  {
    const Matrix from = h(kF32), to = h(kF32);
    add("copy", 8 * hidden, [=, &kernels](const Stream& s) { return kernels.Cast(s, from, to); });
    const Matrix narrow = h(kBf16), other = h(kBf16), out = h(kBf16);
    add("cast to bf16", 6 * hidden,
        [=, &kernels](const Stream& s) { return kernels.Cast(s, from, narrow); });
    add("add", 6 * hidden,
        [=, &kernels](const Stream& s) { return kernels.Add(s, narrow, other, out); });
    const Matrix weight = layout.Take(kBf16, 1, a.hidden), sums = layout.Take(kF32, 1, a.hidden);
    add("rms_norm", 4 * hidden, [=, &kernels](const Stream& s) {
      return kernels.RmsNormForward(s, narrow, weight.data, 1e-5f, out);
    });
    add("rms_norm backward", 8 * hidden, [=, &kernels](const Stream& s) {
      return kernels.RmsNormBackward(s, narrow, weight.data, 1e-5f, other, out,
                                     reinterpret_cast<float*>(sums.data), workspace);
    });
    const std::vector<float> frequency(64, 0.01f);
    add("rope", 4 * hidden, [=, &kernels](const Stream& s) {
      return kernels.Rope(s, out, a.tokens, 128, frequency, 1, 1);
    });
    const Matrix table = layout.Take(kBf16, a.vocab, a.hidden);
    const Matrix gradient = layout.Take(kF32, a.vocab, a.hidden);
    add("embedding", 4 * hidden, [=, &kernels](const Stream& s) {
      return kernels.EmbeddingForward(s, table, 0, tokens, out);
    });
    add("embedding backward", 10 * hidden, [=, &kernels](const Stream& s) {
      return kernels.EmbeddingBackward(s, tokens, out, 0, gradient);
    });
    const auto numbers = reinterpret_cast<const float*>(from.data);
    const uint64_t count = a.tokens * a.hidden;
    add("round and squares", 6 * hidden, [=, &kernels](const Stream& s) {
      return kernels.RoundAndSumSquares(s, {numbers, count}, narrow.data, kBf16, number.data(),
                                        workspace);
    });
    add("squares", 2 * hidden, [=, &kernels](const Stream& s) {
      return kernels.SumOfSquares(s, {narrow.data, 2 * count}, kBf16, number.data(), workspace);
    });
  }
  const Matrix gate = m(), up = m(), out = m(), dgate = m(), dup = m();
  add("swiglu", 6 * wide,
      [=, &kernels](const Stream& s) { return kernels.SwiGluForward(s, gate, up, out); });
  add("swiglu backward", 10 * wide, [=, &kernels](const Stream& s) {
    return kernels.SwiGluBackward(s, gate, up, out, dgate, dup);
  });
  const uint64_t rows = std::min(a.tokens, kernels.rows_at_once().logits_bytes / (6 * a.vocab));
  const Matrix logits = layout.Take(kF32, rows, a.vocab),
               dlogits = layout.Take(kBf16, rows, a.vocab);
  const std::span<SoftmaxRow> softmax = layout.Numbers<SoftmaxRow>(rows);
  const double scores = static_cast<double>(rows * a.vocab);
  add("softmax statistics", 4 * scores, [=, &kernels](const Stream& s) {
    return kernels.SoftmaxStatistics(s, logits, tokens.first(rows), 0, Output::kOverwrite, softmax);
  });
  add("cross entropy", 6 * scores, [=, &kernels](const Stream& s) {
    return kernels.CrossEntropy(s, logits, tokens.first(rows), 0, softmax, 1, dlogits);
  });
  *needed_bytes = layout.peak_bytes();
  return all;
}

// Of one run, in a row of several.
Result<double> SecondsOf(const Operation& operation, tiering::DeviceStream& stream) {
  constexpr int kRuns = 10;
  const tiering::DeviceEvent begin = stream.Record();
  stream.Launch([&](const Stream& on) {
    for (int run = 0; run < kRuns; ++run) STRATA_RETURN_IF_ERROR(operation.run(on));
    return OkStatus();
  });
  const tiering::DeviceEvent end = stream.Record();
  STRATA_RETURN_IF_ERROR(end.Wait().With(operation.name));
  return std::chrono::duration<double>(end.time() - begin.time()).count() / kRuns;
}

// Ids as a text has them: few of them often.
void Fill(tiering::DeviceStream& stream, std::span<std::byte> memory, std::span<int32_t> ids,
          uint64_t vocab) {
  std::mt19937 random(1);
  std::vector<float> numbers(1 << 20);
  std::normal_distribution<float> normal;
  for (float& number : numbers) number = normal(random);
  const std::span<const std::byte> bytes = std::as_bytes(std::span(numbers));
  for (size_t at = 0; at < memory.size(); at += bytes.size()) {
    const size_t size = std::min(bytes.size(), memory.size() - at);
    stream.CopyIn(memory.subspan(at, size), bytes.first(size));
  }
  std::vector<int32_t> values(ids.size());
  std::uniform_real_distribution<double> uniform;
  for (int32_t& value : values)
    value = static_cast<int32_t>(std::pow(static_cast<double>(vocab), uniform(random))) - 1;
  stream.CopyIn(std::as_writable_bytes(ids), std::as_bytes(std::span(values)));
  (void)stream.Record().Wait();
}

Status Measure(const Arguments& arguments) {
  STRATA_ASSIGN_OR_RETURN(const std::unique_ptr<Kernels> plan, MakeCudaKernels(std::nullopt));
  std::span<int32_t> ids;
  uint64_t needed_bytes = 0;
  OperationsOn({}, arguments, *plan, &ids, &needed_bytes);
  STRATA_ASSIGN_OR_RETURN(const std::unique_ptr<tiering::Device> device,
                          tiering::CreateCudaDevice(0, needed_bytes));
  STRATA_ASSIGN_OR_RETURN(const std::unique_ptr<Kernels> kernels, MakeCudaKernels(0));
  const std::unique_ptr<tiering::DeviceStream> stream = device->CreateStream("bench");
  const std::vector<Operation> operations =
      OperationsOn(device->memory(), arguments, *kernels, &ids, &needed_bytes);
  Fill(*stream, device->memory(), ids, arguments.vocab);
  std::vector<std::vector<double>> rates(operations.size());
  for (uint64_t round = 0; round < arguments.rounds + 1; ++round) {
    for (size_t i = 0; i < operations.size(); ++i) {
      STRATA_ASSIGN_OR_RETURN(const double seconds, SecondsOf(operations[i], *stream));
      if (round > 0) rates[i].push_back(operations[i].bytes / seconds / 1e9);  // 0 warms up
    }
  }
  std::string json;
  double copy = 0;
  for (size_t i = 0; i < operations.size(); ++i) {
    std::nth_element(rates[i].begin(),
                     rates[i].begin() + static_cast<ptrdiff_t>(rates[i].size() / 2),
                     rates[i].end());
    const double rate = rates[i][rates[i].size() / 2];
    if (i == 0) copy = rate;
    json += fmt::format("{}\"{}\":{{\"gb_per_s\":{:.1f},\"of_copy\":{:.3f}}}", i == 0 ? "" : ",",
                        operations[i].name, rate, rate / copy);
    if (!arguments.json)
      fmt::print("{:20} {:8.1f} GB/s  {:5.3f} of a copy\n", operations[i].name, rate, rate / copy);
  }
  if (arguments.json) fmt::print("{{{}}}\n", json);
  return OkStatus();
}

}  // namespace
}  // namespace strata::engine

int main(int argc, char** argv) {
  const auto arguments = strata::engine::Parse({argv + 1, argv + argc});
  if (!arguments) {
    std::cerr << "usage: cuda_rows_bench [--tokens N] [--hidden multiple of 128] "
                 "[--intermediate N] [--vocab N] [--rounds N] [--json]\n";
    return 2;
  }
  const strata::Status status = strata::engine::Measure(*arguments);
  if (status.ok()) return 0;
  std::cerr << status.ToString() << "\n";
  return status.code() == strata::Code::kUnavailable ? 77 : 1;  // 77: skipped
}
