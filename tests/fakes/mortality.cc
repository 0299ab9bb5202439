#include "tests/fakes/mortality.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <limits>
#include <utility>

namespace strata::fakes {
namespace {

constinit std::atomic<uint64_t> num_moments = 0;
constinit std::atomic<uint64_t> lifetime_moments = std::numeric_limits<uint64_t>::max();

void Moment() {
  if (num_moments.fetch_add(1) < lifetime_moments.load()) return;
  kill(getpid(), SIGKILL);
  for (;;) pause();  // until it arrives
}

template <typename... Arguments>
int Call(long number, Arguments... arguments) {
  Moment();
  int result = static_cast<int>(syscall(number, arguments...));
  Moment();
  return result;
}

class MortalEngine final : public aio::IoEngine {
 public:
  explicit MortalEngine(std::unique_ptr<aio::IoEngine> engine) : engine_(std::move(engine)) {}

  aio::IoTicket StartReads(std::span<const aio::ReadRange> ranges,
                           aio::RequestOptions options) override {
    Moment();
    return engine_->StartReads(ranges, std::move(options));
  }
  aio::IoTicket StartWrites(std::span<const aio::WriteRange> ranges,
                            aio::RequestOptions options) override {
    Moment();
    aio::IoTicket ticket = engine_->StartWrites(ranges, std::move(options));
    Moment();
    return ticket;
  }
  aio::IoCounters counters() const override { return engine_->counters(); }
  aio::LatencyHistogram latency(aio::IoDirection direction) const override {
    return engine_->latency(direction);
  }
  aio::IoBackend backend() const override { return engine_->backend(); }
  std::vector<std::string> notes() const override { return engine_->notes(); }

 private:
  std::unique_ptr<aio::IoEngine> engine_;
};

}  // namespace

void LiveFor(uint64_t moments) { lifetime_moments = num_moments + moments; }
uint64_t NumMoments() { return num_moments; }

std::unique_ptr<aio::IoEngine> MakeMortal(std::unique_ptr<aio::IoEngine> engine) {
  return std::make_unique<MortalEngine>(std::move(engine));
}

}  // namespace strata::fakes

// In place of libc's: the program's own come first.
extern "C" {
using strata::fakes::Call;
int fsync(int fd) { return Call(SYS_fsync, fd); }
int fdatasync(int fd) { return Call(SYS_fdatasync, fd); }
int ftruncate(int fd, off_t length) noexcept { return Call(SYS_ftruncate, fd, length); }
int rename(const char* from, const char* to) noexcept {
  return Call(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}
int unlink(const char* path) noexcept { return Call(SYS_unlinkat, AT_FDCWD, path, 0); }
int unlinkat(int at, const char* path, int flags) noexcept {
  return Call(SYS_unlinkat, at, path, flags);
}
int rmdir(const char* path) noexcept { return Call(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR); }
int mkdir(const char* path, mode_t mode) noexcept {
  return Call(SYS_mkdirat, AT_FDCWD, path, mode);
}
}
