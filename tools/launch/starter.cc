#include "tools/launch/starter.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

namespace strata::launch {
namespace {

constexpr size_t kSaidBytes = 4096;
constexpr auto kKillAfter = std::chrono::milliseconds(600);

}  // namespace

Starter::Starter(EventLoop& loop, std::string log_path)
    : loop_(loop), log_path_(std::move(log_path)) {}

Starter::~Starter() {
  if (timer_) loop_.Cancel(*timer_);
}

Status Starter::Start(const Command& command) {
  // Should we be killed, mpirun still removes the shared memory of its ranks.
  Result<Child> child = StartChild(
      {.words = command.words, .environment = command.environment, .death_signal = SIGTERM});
  if (!child.ok()) {
    return child.status().With(command.words[0] == "mpirun"
                                   ? "several ranks need OpenMPI (Debian: openmpi-bin)"
                                   : "starting ranks");
  }
  pid_ = child->pid;
  const auto hear = [this](std::string_view lines) { Hear(lines); };
  out_ = std::make_unique<LineReader>(loop_, std::move(child->out), hear, nullptr);
  err_ = std::make_unique<LineReader>(loop_, std::move(child->err), hear, nullptr);
  return OkStatus();
}

void Starter::Hear(std::string_view lines) {
  said_ += lines;
  if (said_.size() > kSaidBytes) said_.erase(0, said_.size() - kSaidBytes);
  if (!log_.is_open())
    log_ = Descriptor(open(log_path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  if (log_.is_open()) (void)!write(log_.get(), lines.data(), lines.size());
}

bool Starter::Reap() {
  int status = 0;
  if (pid_ < 0 || waitpid(pid_, &status, WNOHANG) != pid_) return false;
  kill(-pid_, SIGKILL);  // whatever of its group it left
  pid_ = -1;
  ending_ = EndingOf(status);
  out_->Finish();
  err_->Finish();
  if (timer_) loop_.Cancel(*timer_);
  timer_.reset();
  return true;
}

void Starter::End() {
  if (pid_ < 0 || timer_) return;
  kill(-pid_, SIGTERM);
  timer_ = loop_.After(kKillAfter, [this] {
    timer_.reset();
    if (pid_ > 0) kill(-pid_, SIGKILL);
  });
}

}  // namespace strata::launch
