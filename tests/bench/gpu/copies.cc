// Copies between the host and a GPU, through our Device from the memory of an Arena, beside plain
// cudaMemcpyAsync from memory that CUDA pinned: what of the link's speed is left? Both in one
// process, in turns; the answer is the median over rounds of the two times' ratio, as neighbouring
// rounds share whatever else the machine does.
//
//   copies_vs_cuda [--gpu N] [--mib N]... [--round-mib N] [--rounds N] [--at-least RATIO] [--json]
//
// With --at-least, the exit code is 3 when the ratio of copies of the last size is below it in
// some direction. With --json, text goes to stderr.
#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "aio/base/units.h"
#include "tiering/arena.h"
#include "tiering/cuda_device.h"
#include "tiering/cuda_status.h"

namespace strata::tiering {
namespace {

enum class Direction : uint8_t { kIn, kOut, kBoth };
constexpr std::array kDirections = {Direction::kIn, Direction::kOut, Direction::kBoth};
constexpr const char* kNames[] = {"h2d", "d2h", "both"};

bool Has(Direction direction, Direction one) {
  return direction == one || direction == Direction::kBoth;
}

// Copies of `size` bytes, `count` in each direction, begun together; returns once all are done.
// The first half of each memory is for the way in, the second for the way out.
class Side {
 public:
  virtual ~Side() = default;
  virtual Status Copy(Direction direction, uint64_t size, uint64_t count) = 0;
};

class Ours final : public Side {
 public:
  static Result<std::unique_ptr<Ours>> Create(uint32_t gpu, uint64_t half) {
    STRATA_ASSIGN_OR_RETURN(std::unique_ptr<Device> device, CreateCudaDevice(gpu, 2 * half));
    STRATA_ASSIGN_OR_RETURN(Arena host, Arena::Create("host", 2 * half));
    STRATA_ASSIGN_OR_RETURN(std::unique_ptr<HostRegistration> registration,
                            device->RegisterHostMemory(host.bytes()));
    return std::unique_ptr<Ours>(
        new Ours(std::move(device), std::move(host), std::move(registration), half));
  }

  Status Copy(Direction direction, uint64_t size, uint64_t count) override {
    for (uint64_t i = 0; i < count; ++i) {
      if (Has(direction, Direction::kIn)) {
        in_->CopyIn(device_->memory().first(size), host_.Slot(0, size));
      }
      if (Has(direction, Direction::kOut)) {
        out_->CopyOut(host_.Slot(half_, size), device_->memory().subspan(half_, size));
      }
    }
    if (Has(direction, Direction::kIn)) STRATA_RETURN_IF_ERROR(in_->Record().Wait());
    if (Has(direction, Direction::kOut)) STRATA_RETURN_IF_ERROR(out_->Record().Wait());
    return OkStatus();
  }

  // That copies move bytes: there and back, every byte.
  Status Check() {
    const std::span<std::byte> from = host_.Slot(0, half_);
    const std::span<std::byte> back = host_.Slot(half_, half_);
    for (uint64_t i = 0; i < half_; ++i) from[i] = static_cast<std::byte>((i * 2654435761u) >> 13);
    std::fill(back.begin(), back.end(), std::byte{0xee});
    in_->CopyIn(device_->memory().first(half_), from);
    out_->WaitFor(in_->Record());
    out_->CopyOut(back, device_->memory().first(half_));
    STRATA_RETURN_IF_ERROR(out_->Record().Wait());
    if (std::memcmp(from.data(), back.data(), half_) == 0) return OkStatus();
    return DataLoss("what was copied to the GPU and back is not what it was");
  }

 private:
  Ours(std::unique_ptr<Device> device, Arena host, std::unique_ptr<HostRegistration> registration,
       uint64_t half)
      : device_(std::move(device)),
        host_(std::move(host)),
        registration_(std::move(registration)),
        half_(half),
        in_(device_->CreateStream("h2d")),
        out_(device_->CreateStream("d2h")) {}

  std::unique_ptr<Device> device_;
  Arena host_;
  std::unique_ptr<HostRegistration> registration_;
  uint64_t half_;
  std::unique_ptr<DeviceStream> in_;
  std::unique_ptr<DeviceStream> out_;
};

struct FreeHost {
  void operator()(std::byte* memory) const { (void)cudaFreeHost(memory); }
};
struct FreeDevice {
  void operator()(std::byte* memory) const { (void)cudaFree(memory); }
};
struct DestroyStream {
  void operator()(cudaStream_t stream) const { (void)cudaStreamDestroy(stream); }
};
using Stream = std::unique_ptr<std::remove_pointer_t<cudaStream_t>, DestroyStream>;

Result<Stream> MakeStream() {
  cudaStream_t stream = nullptr;
  STRATA_RETURN_IF_ERROR(CudaStatus(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking),
                                    "cudaStreamCreateWithFlags"));
  return Stream(stream);
}

class Plain final : public Side {
 public:
  // On the GPU that was made current before.
  static Result<std::unique_ptr<Plain>> Create(uint64_t half) {
    void* host = nullptr;
    void* device = nullptr;
    STRATA_RETURN_IF_ERROR(CudaStatus(cudaMallocHost(&host, 2 * half), "cudaMallocHost"));
    auto plain = std::make_unique<Plain>();
    plain->half_ = half;
    plain->host_.reset(static_cast<std::byte*>(host));
    STRATA_RETURN_IF_ERROR(CudaStatus(cudaMalloc(&device, 2 * half), "cudaMalloc"));
    plain->device_.reset(static_cast<std::byte*>(device));
    STRATA_ASSIGN_OR_RETURN(plain->in_, MakeStream());
    STRATA_ASSIGN_OR_RETURN(plain->out_, MakeStream());
    std::memset(host, 0x5a, 2 * half);
    return plain;
  }

  Status Copy(Direction direction, uint64_t size, uint64_t count) override {
    for (uint64_t i = 0; i < count; ++i) {
      if (Has(direction, Direction::kIn)) {
        STRATA_RETURN_IF_ERROR(CudaStatus(
            cudaMemcpyAsync(device_.get(), host_.get(), size, cudaMemcpyHostToDevice, in_.get()),
            "cudaMemcpyAsync"));
      }
      if (Has(direction, Direction::kOut)) {
        STRATA_RETURN_IF_ERROR(
            CudaStatus(cudaMemcpyAsync(host_.get() + half_, device_.get() + half_, size,
                                       cudaMemcpyDeviceToHost, out_.get()),
                       "cudaMemcpyAsync"));
      }
    }
    STRATA_RETURN_IF_ERROR(CudaStatus(cudaStreamSynchronize(in_.get()), "the way in"));
    return CudaStatus(cudaStreamSynchronize(out_.get()), "the way out");
  }

 private:
  uint64_t half_ = 0;
  std::unique_ptr<std::byte, FreeHost> host_;
  std::unique_ptr<std::byte, FreeDevice> device_;
  Stream in_;
  Stream out_;
};

struct Arguments {
  uint32_t gpu = 0;
  std::vector<uint64_t> sizes;
  uint64_t round_bytes = 1_GiB;  // in each direction
  uint64_t rounds = 15;
  double at_least = 0;
  bool json = false;
};

std::optional<Arguments> Parse(const std::vector<std::string>& words) {
  Arguments arguments;
  for (size_t i = 0; i < words.size(); ++i) {
    if (words[i] == "--json") {
      arguments.json = true;
      continue;
    }
    if (i + 1 == words.size()) return std::nullopt;
    const std::string& name = words[i];
    const std::string& word = words[++i];
    char* end = nullptr;
    const double value = std::strtod(word.c_str(), &end);
    const auto number = static_cast<uint64_t>(std::max(0.0, value));
    if (word.empty() || *end != '\0') return std::nullopt;
    if (name == "--gpu") {
      arguments.gpu = static_cast<uint32_t>(number);
    } else if (name == "--at-least") {
      arguments.at_least = value;
    } else if (number == 0) {
      return std::nullopt;
    } else if (name == "--mib") {
      arguments.sizes.push_back(number << 20);
    } else if (name == "--round-mib") {
      arguments.round_bytes = number << 20;
    } else if (name == "--rounds") {
      arguments.rounds = number;
    } else {
      return std::nullopt;
    }
  }
  if (arguments.sizes.empty()) arguments.sizes = {1_MiB, 16_MiB, 256_MiB};
  return arguments;
}

double Median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

Result<double> Seconds(Side& side, Direction direction, uint64_t size, uint64_t count) {
  const auto begin = std::chrono::steady_clock::now();
  STRATA_RETURN_IF_ERROR(side.Copy(direction, size, count));
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

struct Row {
  Direction direction = Direction::kIn;
  uint64_t size_bytes = 0;
  double ours_gb_per_s = 0;
  double plain_gb_per_s = 0;
  double ratio = 0;

  const char* name() const { return kNames[static_cast<size_t>(direction)]; }
};

Result<Row> Compare(Side& ours, Side& plain, Direction direction, uint64_t size,
                    const Arguments& arguments) {
  const uint64_t count = std::max<uint64_t>(1, arguments.round_bytes / size);
  std::vector<double> ratios, of_ours, of_plain;
  const double bytes =
      static_cast<double>(size * count) * (direction == Direction::kBoth ? 2.0 : 1.0);
  for (uint64_t round = 0; round < arguments.rounds + 1; ++round) {
    std::array<double, 2> seconds = {};
    for (const size_t turn : {round % 2, 1 - round % 2}) {
      STRATA_ASSIGN_OR_RETURN(seconds[turn],
                              Seconds(turn == 0 ? ours : plain, direction, size, count));
    }
    if (round == 0) continue;  // warms up
    ratios.push_back(seconds[1] / seconds[0]);
    of_ours.push_back(bytes / seconds[0] / 1e9);
    of_plain.push_back(bytes / seconds[1] / 1e9);
  }
  return Row{direction, size, Median(of_ours), Median(of_plain), Median(ratios)};
}

// For each size in each direction; shown as they come.
Result<std::vector<Row>> CompareAll(const Arguments& arguments) {
  const uint64_t half = *std::max_element(arguments.sizes.begin(), arguments.sizes.end());
  STRATA_ASSIGN_OR_RETURN(const std::unique_ptr<Ours> ours, Ours::Create(arguments.gpu, half));
  STRATA_ASSIGN_OR_RETURN(const std::unique_ptr<Plain> plain, Plain::Create(half));
  STRATA_RETURN_IF_ERROR(ours->Check());
  std::vector<Row> rows;
  for (const uint64_t size : arguments.sizes) {
    for (const Direction direction : kDirections) {
      STRATA_ASSIGN_OR_RETURN(const Row row, Compare(*ours, *plain, direction, size, arguments));
      rows.push_back(row);
      fmt::print(arguments.json ? stderr : stdout,
                 "{:4}  {:>8}  ours {:7.2f} GB/s  plain {:7.2f} GB/s  ratio {:.3f}\n", row.name(),
                 FormatBytes(size), row.ours_gb_per_s, row.plain_gb_per_s, row.ratio);
    }
  }
  return rows;
}

std::string ToJson(const std::vector<Row>& rows) {
  std::string json;
  for (const Row& row : rows) {
    json += fmt::format(
        R"({}{{"direction":"{}","copy_bytes":{},"ours_gb_per_s":{:.3f},"plain_gb_per_s":{:.3f},"ratio":{:.4f}}})",
        json.empty() ? "" : ",", row.name(), row.size_bytes, row.ours_gb_per_s, row.plain_gb_per_s,
        row.ratio);
  }
  return fmt::format(R"({{"rows":[{}]}})", json);
}

int Main(const std::vector<std::string>& words) {
  const std::optional<Arguments> arguments = Parse(words);
  if (!arguments) {
    std::cerr << "usage: copies_vs_cuda [--gpu N] [--mib N]... [--round-mib N] [--rounds N] "
                 "[--at-least RATIO] [--json]\n";
    return 2;
  }
  const Result<std::vector<Row>> rows = CompareAll(*arguments);
  if (!rows.ok()) {
    std::cerr << "error: " << rows.status().ToString() << "\n";
    return 1;
  }
  if (arguments->json) fmt::print("{}\n", ToJson(*rows));
  // The last size, in all directions.
  const auto begin = rows->end() - std::ssize(kDirections);
  const Row& worst = *std::min_element(
      begin, rows->end(), [](const Row& a, const Row& b) { return a.ratio < b.ratio; });
  std::string line = FormatBytes(worst.size_bytes) + " copies:";
  for (auto row = begin; row != rows->end(); ++row) {
    line += fmt::format(" {} {:.1f} GB/s ({:.3f})", row->name(), row->ours_gb_per_s, row->ratio);
  }
  fmt::print(arguments->json ? stderr : stdout, "{}\n", line);
  return worst.ratio < arguments->at_least ? 3 : 0;
}

}  // namespace
}  // namespace strata::tiering

int main(int argc, char** argv) { return strata::tiering::Main({argv + 1, argv + argc}); }
