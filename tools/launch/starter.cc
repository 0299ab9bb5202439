#include "tools/launch/starter.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <thread>

namespace strata::launch {
namespace {

constexpr size_t kSaidBytes = 4096;
constexpr auto kKillAfter = std::chrono::milliseconds(600);
constexpr auto kPauseBetweenLooks = std::chrono::milliseconds(10);

}  // namespace

Starter::Starter(EventLoop& loop, std::string log_path)
    : loop_(loop), log_path_(std::move(log_path)) {}

Starter::~Starter() {
  if (timer_) loop_.Cancel(*timer_);
}

Status Starter::Start(const std::vector<Command>& commands, int death_signal) {
  const auto hear = [this](std::string_view lines) { Hear(lines); };
  for (const Command& command : commands) {
    Result<Child> child = StartChild(
        {.words = command.words, .environment = command.environment, .death_signal = death_signal});
    if (!child.ok()) {
      return child.status().With(command.words[0] == "mpirun"
                                     ? "--comm mpi needs OpenMPI (Debian: openmpi-bin), --comm tcp "
                                       "does not"
                                     : "starting ranks");
    }
    children_.push_back(
        {.pid = child->pid,
         .out = std::make_unique<LineReader>(loop_, std::move(child->out), hear, nullptr),
         .err = std::make_unique<LineReader>(loop_, std::move(child->err), hear, nullptr)});
    ++num_running_;
  }
  return OkStatus();
}

void Starter::Hear(std::string_view lines) {
  said_ += lines;
  if (said_.size() > kSaidBytes) said_.erase(0, said_.size() - kSaidBytes);
  if (log_path_.empty()) return;
  if (!log_.is_open())
    log_ = Descriptor(open(log_path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  if (log_.is_open()) (void)!write(log_.get(), lines.data(), lines.size());
}

bool Starter::Reap() {
  const size_t num_before = num_running_;
  for (Started& child : children_) {
    int status = 0;
    if (child.pid < 0 || waitpid(child.pid, &status, WNOHANG) != child.pid) continue;
    kill(-child.pid, SIGKILL);  // whatever of its group it left
    child.pid = -1;
    --num_running_;
    if (ending_.ok()) ending_ = EndingOf(status);
    child.out->Finish();
    child.err->Finish();
  }
  if (num_before == 0 || num_running_ > 0) return false;
  if (timer_) loop_.Cancel(*timer_);
  timer_.reset();
  return true;
}

void Starter::Signal(int number) const {
  for (const Started& child : children_)
    if (child.pid > 0) kill(-child.pid, number);
}

void Starter::End() {
  if (!is_running() || timer_) return;
  Signal(SIGTERM);
  timer_ = loop_.After(kKillAfter, [this] {
    timer_.reset();
    Signal(SIGKILL);
  });
}

void Starter::EndAndWait(std::chrono::milliseconds time) {
  Signal(SIGTERM);
  const auto end = std::chrono::steady_clock::now() + time;
  while (is_running() && !Reap() && std::chrono::steady_clock::now() < end)
    std::this_thread::sleep_for(kPauseBetweenLooks);
}

}  // namespace strata::launch
