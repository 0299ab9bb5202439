#include "engine/train/measure.h"

#include <fmt/format.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <functional>
#include <vector>

#include "aio/base/units.h"
#include "engine/train/measure_ops.h"
#include "engine/train/ranks.h"

namespace strata::engine {
namespace {

using Bytes = std::span<std::byte>;
using prefetch::Hardware;

constexpr size_t kRounds = 5;
constexpr uint64_t kCopyBytes = 64_MiB;

double SecondsOf(const std::function<Status()>& work, Status& status) {
  auto begin = tiering::Clock::now();
  if (status.ok()) status = work();
  return std::chrono::duration<double>(tiering::Clock::now() - begin).count();
}

// The median time of `work`, after one run that does not count.
Result<double> MedianSeconds(const std::function<void()>& before,
                             const std::function<Status()>& work) {
  Status status;
  std::array<double, kRounds> seconds{};
  SecondsOf(work, status);
  for (double& second : seconds) {
    before();
    second = SecondsOf(work, status);
  }
  STRATA_RETURN_IF_ERROR(status);
  std::sort(seconds.begin(), seconds.end());
  return seconds[kRounds / 2];
}

// More than the last-level cache holds.
uint64_t CacheBytes() {
  constexpr uint64_t kUnknown = 128_MiB;
  const long last_level = sysconf(_SC_LEVEL3_CACHE_SIZE);
  return last_level > 0 ? 2 * static_cast<uint64_t>(last_level) : kUnknown;
}

// Before each copy that is measured: walks over memory that the run has and the copy leaves alone,
// as the rest of a step does, so that caches hold of its bytes what they would in a step. A run
// that has no more memory than they hold finds all of it there. (Operations need no walk: they are
// measured in the order and the memory of a step.)
class CacheWalk {
 public:
  CacheWalk(Kernels& kernels, tiering::DeviceStream& stream, Bytes device_rest, Bytes host_rest)
      : kernels_(kernels), stream_(stream), device_rest_(device_rest), host_rest_(host_rest) {}

  void operator()() const {
    const uint64_t left = CacheBytes();
    const Bytes walked = device_rest_.first(std::min<uint64_t>(device_rest_.size(), left));
    stream_.Launch([this, walked](const tiering::StreamContext& context) {
      return kernels_.Zero(context, walked);
    });
    (void)stream_.Record().Wait();  // a failure is the next work's, too
    const Bytes rest =
        host_rest_.first(std::min<uint64_t>(host_rest_.size(), left - walked.size()));
    if (!rest.empty()) std::memset(rest.data(), 0, rest.size());
  }

 private:
  Kernels& kernels_;
  tiering::DeviceStream& stream_;
  const Bytes device_rest_;
  const Bytes host_rest_;
};

// To give a lane's thread something to do and hear that it is done are two hand-overs.
Status MeasureLatency(tiering::Device& device, Hardware& hardware) {
  constexpr int kHandOvers = 200;
  std::unique_ptr<tiering::DeviceStream> stream = device.CreateStream("measure");
  STRATA_ASSIGN_OR_RETURN(
      double seconds,
      MedianSeconds([] {},
                    [&] {
                      Status status;
                      for (int i = 0; i < kHandOvers && status.ok(); ++i) {
                        stream->Launch([](const tiering::StreamContext&) { return OkStatus(); });
                        status = stream->Record().Wait();
                      }
                      return status;
                    }));
  hardware.node_latency_s = seconds / kHandOvers / 2;
  return OkStatus();
}

Status MeasureCopies(Kernels& kernels, tiering::Device& device, const tiering::Arena& host,
                     Hardware& hardware) {
  uint64_t size = std::min({device.memory().size(), host.size_bytes(), kCopyBytes});
  Bytes there = device.memory().first(size);
  Bytes here = host.bytes().first(size);
  std::unique_ptr<tiering::DeviceStream> stream = device.CreateStream("measure");
  const CacheWalk walk(kernels, *stream, device.memory().subspan(size), host.bytes().subspan(size));
  STRATA_ASSIGN_OR_RETURN(double in, MedianSeconds(walk, [&] {
                            stream->CopyIn(there, here);
                            return stream->Record().Wait();
                          }));
  STRATA_ASSIGN_OR_RETURN(double out, MedianSeconds(walk, [&] {
                            stream->CopyOut(here, there);
                            return stream->Record().Wait();
                          }));
  hardware.h2d_bytes_per_s = static_cast<double>(size) / in;
  hardware.d2h_bytes_per_s = static_cast<double>(size) / out;
  return OkStatus();
}

// Of bytes that are in the caches: they have just been read, or computed.
Status MeasureChecksum(const tiering::Arena& host, Hardware& hardware) {
  Bytes memory = host.bytes().first(std::min(host.size_bytes(), kCopyBytes));
  volatile uint64_t sink = 0;  // keeps the hash from being optimised away
  STRATA_ASSIGN_OR_RETURN(double seconds, MedianSeconds([] {},
                                                        [&] {
                                                          sink = XXH3_64bits(memory.data(),
                                                                             memory.size());
                                                          return OkStatus();
                                                        }));
  hardware.checksum_bytes_per_s = static_cast<double>(memory.size()) / seconds;
  return OkStatus();
}

bool UsesNvme(const PlannedRun& run) {
  return std::any_of(run.plan.nodes.begin(), run.plan.nodes.end(), [](const prefetch::Node& node) {
    return node.lane == prefetch::Lane::kNvmeRead || node.lane == prefetch::Lane::kNvmeWrite;
  });
}

// `directory`; or, when that is one inside a run that is not there yet, the nearest one above,
// which is on the same drive.
std::string DriveOf(const PlannedRun& run, const std::string& directory) {
  std::filesystem::path path = directory;
  std::error_code ignored;
  bool is_ours = directory.starts_with(run.config.train.run_dir + "/");
  while (is_ours && !std::filesystem::exists(path, ignored)) path = path.parent_path();
  return path.string();
}

// A striped store has the sum of its drives, each measured alone.
Status MeasureDrives(const PlannedRun& run, std::span<std::byte> memory, aio::IoEngine& engine,
                     Hardware& hardware) {
  Hardware sum = hardware;
  sum.nvme_read_bytes_per_s = sum.nvme_write_bytes_per_s = sum.nvme_mixed_bytes_per_s = 0;
  sum.nvme_bytes_per_core_s = 0;
  const size_t num_drives = run.store_directories.size();
  for (const std::string& directory : run.store_directories) {
    Hardware one;
    STRATA_RETURN_IF_ERROR(MeasureDrive(DriveOf(run, directory), memory, engine, one));
    sum.nvme_read_bytes_per_s += one.nvme_read_bytes_per_s;
    sum.nvme_write_bytes_per_s += one.nvme_write_bytes_per_s;
    sum.nvme_mixed_bytes_per_s += one.nvme_mixed_bytes_per_s;
    sum.nvme_bytes_per_core_s += one.nvme_bytes_per_core_s / static_cast<double>(num_drives);
  }
  hardware = sum;
  return OkStatus();
}

}  // namespace

Result<Hardware> MeasureHardware(const PlannedRun& run, const MeasureParts& parts) {
  tiering::Device& device = *parts.device;
  const tiering::Arena& host = *parts.host;
  Hardware hardware = run.hardware;
  hardware.cores = static_cast<uint32_t>(ThreadsPerRank(*parts.communicator));
  hardware.op_threads = std::min(run.threads, hardware.cores);
  STRATA_RETURN_IF_ERROR(MeasureCopies(*run.kernels, device, host, hardware));
  STRATA_RETURN_IF_ERROR(MeasureChecksum(host, hardware));
  STRATA_RETURN_IF_ERROR(MeasureOps(run, device, host, *parts.communicator, hardware));
  STRATA_RETURN_IF_ERROR(MeasureLatency(device, hardware));
  if (UsesNvme(run)) {
    STRATA_RETURN_IF_ERROR(MeasureDrives(run, host.bytes(), *parts.engine, hardware));
  }
  AccountForVerify(run.config, hardware);
  return hardware;
}

std::string ToToml(const Hardware& hardware) {
  std::string toml = "[hardware]\n";
  auto add = [&](std::string_view key, double value) {
    toml += fmt::format("{} = {:.4g}\n", key, value);
  };
  add("nvme_read_bytes_per_s", hardware.nvme_read_bytes_per_s);
  add("nvme_write_bytes_per_s", hardware.nvme_write_bytes_per_s);
  add("nvme_mixed_bytes_per_s", hardware.nvme_mixed_bytes_per_s);
  add("h2d_bytes_per_s", hardware.h2d_bytes_per_s);
  add("d2h_bytes_per_s", hardware.d2h_bytes_per_s);
  add("checksum_bytes_per_s", hardware.checksum_bytes_per_s);
  add("nvme_bytes_per_core_s", hardware.nvme_bytes_per_core_s);
  add("compute_default_per_s", hardware.compute_default_per_s);
  add("device_memory_bytes_per_s", hardware.device_memory_bytes_per_s);
  add("comm_default_per_s", hardware.comm_default_per_s);
  add("cpu_default_per_s", hardware.cpu_default_per_s);
  add("node_latency_s", hardware.node_latency_s);
  toml += fmt::format("cores = {}\nop_threads = {}\ndevice_shares_cores = {}\n", hardware.cores,
                      hardware.op_threads, hardware.device_shares_cores);
  toml += "\n[hardware.rates]\n";
  for (const auto& [kind, rate] : hardware.rates) {
    toml += fmt::format("\"{}\" = {:.4g}\n", kind, rate);
  }
  return toml;
}

}  // namespace strata::engine
