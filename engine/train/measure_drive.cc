#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <deque>
#include <vector>

#include "aio/base/units.h"
#include "aio/file.h"
#include "engine/train/measure.h"

namespace strata::engine {
namespace {

using Bytes = std::span<std::byte>;

constexpr uint64_t kRequestBytes = 8_MiB;
constexpr uint64_t kFileBytes = 512_MiB;
constexpr size_t kRounds = 3;

// A file that is gone when this is.
class TemporaryFile {
 public:
  static Result<TemporaryFile> Create(const std::string& directory, uint64_t size_bytes) {
    std::string path = fmt::format("{}/strata-measure-{}", directory, getpid());
    Result<aio::File> file = aio::File::Open(
        path, {.access = aio::FileAccess::kReadWrite, .create = aio::FileCreate::kCreateNew});
    if (!file.ok()) return file.status();
    // Lives on until closed, whatever happens to us.
    if (unlink(path.c_str()) != 0) return ErrnoStatus(errno, "unlink " + path);
    STRATA_RETURN_IF_ERROR(file->Preallocate(size_bytes));
    return TemporaryFile(std::move(file).value());
  }

  const aio::File& file() const { return file_; }

 private:
  explicit TemporaryFile(aio::File file) : file_(std::move(file)) {}
  aio::File file_;
};

// Of the process, in user and kernel mode.
double CpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

struct Mix {
  bool reads = false;
  bool writes = false;
};

class DriveMeter {
 public:
  DriveMeter(const aio::File& file, Bytes memory, aio::IoEngine& engine)
      : file_(file), engine_(engine) {
    // At least 4 requests, at most 8, as large as the memory allows.
    uint64_t each = std::min(kRequestBytes, memory.size() / 8 / 4096 * 4096);
    for (size_t i = 0; i < 8; ++i) buffers_.push_back(memory.subspan(i * each, each));
  }

  // Bytes per second of one pass over the file, reads and writes alternating when both are asked.
  Result<double> Pass(const Mix& mix) {
    auto begin = tiering::Clock::now();
    uint64_t moved = 0;
    std::deque<aio::IoTicket> window;
    for (uint64_t offset = 0; offset + Request() <= kFileBytes; offset += Request()) {
      if (window.size() == buffers_.size()) {
        STRATA_RETURN_IF_ERROR(window.front().Wait());
        window.pop_front();
      }
      window.push_back(Start(offset, mix));
      moved += Request();
    }
    for (aio::IoTicket& ticket : window) STRATA_RETURN_IF_ERROR(ticket.Wait());
    std::chrono::duration<double> elapsed = tiering::Clock::now() - begin;
    return static_cast<double>(moved) / elapsed.count();
  }

 private:
  uint64_t Request() const { return buffers_[0].size(); }

  aio::IoTicket Start(uint64_t offset, const Mix& mix) {
    uint64_t number = offset / Request();
    Bytes buffer = buffers_[number % buffers_.size()];
    bool is_read = mix.reads && (!mix.writes || number % 2 == 0);
    return is_read ? engine_.StartRead(file_, offset, buffer)
                   : engine_.StartWrite(file_, offset, buffer);
  }

  const aio::File& file_;
  aio::IoEngine& engine_;
  std::vector<Bytes> buffers_;
};

double Median(std::array<double, kRounds> values) {
  std::sort(values.begin(), values.end());
  return values[kRounds / 2];
}

}  // namespace

Status MeasureDrive(const std::string& directory, Bytes memory, aio::IoEngine& engine,
                    prefetch::Hardware& hardware) {
  if (memory.size() < 8 * 4096) {
    return ResourceExhausted("measuring a drive needs 32 KiB of host memory");
  }
  Result<TemporaryFile> temporary = TemporaryFile::Create(directory, kFileBytes);
  if (!temporary.ok()) return temporary.status().With("measure drive");
  DriveMeter meter(temporary->file(), memory, engine);
  STRATA_RETURN_IF_ERROR(meter.Pass({.writes = true}).status());  // initialise the blocks

  constexpr std::array<Mix, 3> kMixes = {{{.reads = true}, {.writes = true}, {true, true}}};
  std::array<std::array<double, kRounds>, kMixes.size()> rates{};
  const double cpu_before_s = CpuSeconds();
  for (size_t round = 0; round < kRounds; ++round) {
    for (size_t mix = 0; mix < kMixes.size(); ++mix) {
      STRATA_ASSIGN_OR_RETURN(rates[mix][round], meter.Pass(kMixes[mix]));
    }
  }
  const double moved = static_cast<double>(kRounds * kMixes.size() * kFileBytes);
  hardware.nvme_bytes_per_core_s = moved / std::max(CpuSeconds() - cpu_before_s, 1e-3);
  hardware.nvme_read_bytes_per_s = Median(rates[0]);
  hardware.nvme_write_bytes_per_s = Median(rates[1]);
  hardware.nvme_mixed_bytes_per_s = Median(rates[2]);
  return OkStatus();
}

}  // namespace strata::engine
