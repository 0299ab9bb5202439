#include "tools/launch/process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <thread>
#include <vector>

#include "tools/launch/split.h"

namespace strata::launch {
namespace {

struct Pipe {
  Descriptor read;
  Descriptor write;
};
Result<Pipe> MakePipe() {
  std::array<int, 2> fds = {};
  if (pipe2(fds.data(), O_CLOEXEC) != 0) return ErrnoStatus(errno, "pipe");
  return Pipe{Descriptor(fds[0]), Descriptor(fds[1])};
}

std::vector<const char*> Pointers(const std::vector<std::string>& words) {
  std::vector<const char*> pointers;
  for (const std::string& word : words) pointers.push_back(word.c_str());
  pointers.push_back(nullptr);
  return pointers;
}

// What is ours, with the additions in the place of what they replace.
std::vector<std::string> EnvironmentWith(const ChildOptions& options) {
  std::vector<std::string> all;
  for (char** one = environ; *one != nullptr; ++one) {
    const std::string_view text = *one;
    const std::string_view name = text.substr(0, text.find('='));
    bool is_replaced = false;
    for (const auto& [replaced, value] : options.environment) is_replaced |= replaced == name;
    if (!is_replaced) all.emplace_back(text);
  }
  for (const auto& [name, value] : options.environment) all.push_back(name + "=" + value);
  return all;
}

// In the child, between fork and exec: nothing that allocates.
[[noreturn]] void Become(const char* const* words, const char* const* environment, int death_signal,
                         pid_t parent, int out, int err, int failure) {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, death_signal);
  if (getppid() != parent) _exit(127);  // it went before prctl could ask
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  signal(SIGPIPE, SIG_DFL);
  const int nothing = open("/dev/null", O_RDONLY);
  if (nothing >= 0) dup2(nothing, STDIN_FILENO);
  dup2(out, STDOUT_FILENO);
  dup2(err, STDERR_FILENO);
  execvpe(words[0], const_cast<char* const*>(words), const_cast<char* const*>(environment));
  const int error = errno;
  (void)!write(failure, &error, sizeof error);
  _exit(127);
}

// The errno with which exec failed, if it did.
std::optional<int> ReadFailure(int fd) {
  int error = 0;
  ssize_t count = 0;
  do {
    count = read(fd, &error, sizeof error);
  } while (count < 0 && errno == EINTR);
  return count == sizeof error ? std::optional<int>(error) : std::nullopt;
}

// A killed process has ended by then, or waits in the kernel for something that does not come.
constexpr auto kTimeToDie = std::chrono::seconds(3);
constexpr auto kPauseBetweenLooks = std::chrono::milliseconds(2);

std::vector<pid_t> Children() {
  std::ifstream file(fmt::format("/proc/self/task/{}/children", getpid()));
  std::vector<pid_t> children;
  for (pid_t pid = 0; file >> pid;) children.push_back(pid);
  return children;
}

void SayWhoStays(const std::vector<pid_t>& children) {
  for (const pid_t pid : children)
    fmt::print(
        stderr,
        "error: process {} was killed and does not end: it is in the kernel, which waits for "
        "a drive or another device; it ends when that answers\n",
        pid);
}

}  // namespace

Result<Child> StartChild(const ChildOptions& options) {
  STRATA_ASSIGN_OR_RETURN(Pipe out, MakePipe());
  STRATA_ASSIGN_OR_RETURN(Pipe err, MakePipe());
  STRATA_ASSIGN_OR_RETURN(Pipe failure, MakePipe());
  const std::vector<std::string> environment = EnvironmentWith(options);
  const std::vector<const char*> words = Pointers(options.words);
  const std::vector<const char*> variables = Pointers(environment);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) return ErrnoStatus(errno, "fork");
  if (pid == 0) {
    Become(words.data(), variables.data(), options.death_signal, parent, out.write.get(),
           err.write.get(), failure.write.get());
  }
  setpgid(pid, pid);  // whoever is first
  failure.write.Close();
  if (std::optional<int> error = ReadFailure(failure.read.get())) {
    waitpid(pid, nullptr, 0);
    return ErrnoStatus(*error, fmt::format("cannot run '{}'", options.words[0]));
  }
  return Child{pid, std::move(out.read), std::move(err.read)};
}

bool IsOnPath(const std::string& name) {
  const char* path = std::getenv("PATH");
  if (path == nullptr) return false;
  const std::vector<std::string_view> folders = Split(path, ':');
  return std::any_of(folders.begin(), folders.end(), [&](std::string_view folder) {
    const std::string file = fmt::format("{}/{}", folder.empty() ? "." : folder, name);
    std::error_code error;
    return std::filesystem::is_regular_file(file, error) && access(file.c_str(), X_OK) == 0;
  });
}

Ending EndingOf(int wait_status) {
  if (WIFSIGNALED(wait_status)) return {0, WTERMSIG(wait_status)};
  return {WEXITSTATUS(wait_status), 0};
}

std::string Describe(const Ending& ending) {
  if (ending.signal_number == 0) return fmt::format("exit code {}", ending.exit_code);
  return fmt::format("killed by signal {} ({})", ending.signal_number,
                     strsignal(ending.signal_number));
}

void KillAllChildren() {
  const auto end = std::chrono::steady_clock::now() + kTimeToDie;
  // What a killed child leaves comes to us, so look until there is none.
  for (;;) {
    for (const pid_t pid : Children()) kill(pid, SIGKILL);
    pid_t reaped = 0;
    do {
      reaped = waitpid(-1, nullptr, WNOHANG);
    } while (reaped > 0);
    if (reaped < 0 && errno == ECHILD) return;
    if (std::chrono::steady_clock::now() >= end) return SayWhoStays(Children());
    std::this_thread::sleep_for(kPauseBetweenLooks);
  }
}

SignalWatch::SignalWatch(EventLoop& loop, const std::vector<int>& signals,
                         std::function<void(int)> on_signal)
    : loop_(loop) {
  sigset_t set;
  sigemptyset(&set);
  for (int signal_number : signals) sigaddset(&set, signal_number);
  STRATA_CHECK(pthread_sigmask(SIG_BLOCK, &set, &before_) == 0);
  fd_ = Descriptor(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  STRATA_CHECK(fd_.is_open());
  loop_.Watch(fd_.get(), POLLIN, [this, on_signal = std::move(on_signal)](short) {
    signalfd_siginfo info;
    while (read(fd_.get(), &info, sizeof info) == sizeof info)
      on_signal(static_cast<int>(info.ssi_signo));
  });
}

SignalWatch::~SignalWatch() {
  loop_.Forget(fd_.get());
  pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

LineReader::LineReader(EventLoop& loop, Descriptor from,
                       std::function<void(std::string_view)> on_lines, std::function<void()> on_end)
    : loop_(loop),
      from_(std::move(from)),
      on_lines_(std::move(on_lines)),
      on_end_(std::move(on_end)) {
  STRATA_CHECK(fcntl(from_.get(), F_SETFL, O_NONBLOCK) == 0);
  loop_.Watch(from_.get(), POLLIN, [this](short) { Read(); });
}

LineReader::~LineReader() {
  if (from_.is_open()) loop_.Forget(from_.get());
}

void LineReader::Read() {
  constexpr size_t kMaxLineBytes = 1 << 16;
  std::array<char, 1 << 16> buffer;
  ssize_t count = 0;
  do {
    count = read(from_.get(), buffer.data(), buffer.size());
  } while (count < 0 && errno == EINTR);
  if (count < 0 && errno == EAGAIN) return;
  if (count <= 0) return End();
  partial_.append(buffer.data(), static_cast<size_t>(count));
  const size_t last = partial_.rfind('\n');
  if (last != std::string::npos) {
    const std::string lines = partial_.substr(0, last + 1);
    partial_.erase(0, last + 1);
    on_lines_(lines);
  } else if (partial_.size() > kMaxLineBytes) {
    const std::string line = std::exchange(partial_, {}) + "\n";
    on_lines_(line);
  }
}

void LineReader::Finish() {
  while (from_.is_open()) {
    pollfd readable = {from_.get(), POLLIN, 0};
    if (poll(&readable, 1, 0) <= 0) return End();
    Read();
  }
}

void LineReader::End() {
  loop_.Forget(from_.get());
  from_.Close();
  if (!partial_.empty()) on_lines_(std::exchange(partial_, {}) + "\n");
  if (on_end_) on_end_();
}

}  // namespace strata::launch
