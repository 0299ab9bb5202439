#include "tests/tools/launch/running.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "aio/base/check.h"

namespace strata::launch {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

std::string Mark() { return fmt::format("STRATA_TEST_MARK={}", getpid()); }

// What we may look at.
std::vector<std::string> MarkedProcesses() {
  std::vector<std::string> found;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator("/proc", error)) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    const std::string environment = ReadText(entry.path() / "environ");
    if (environment.find(Mark() + '\0') == std::string::npos) continue;
    std::string command = ReadText(entry.path() / "cmdline");
    std::replace(command.begin(), command.end(), '\0', ' ');
    found.push_back(name + ": " + command);
  }
  return found;
}

}  // namespace

Running::Running(const std::vector<std::string>& words, const std::string& directory,
                 const std::vector<std::pair<std::string, std::string>>& environment)
    : directory_(directory) {
  static int count = 0;
  const std::string name = fmt::format("{}/run-{}", directory, ++count);
  out_path_ = name + ".out";
  err_path_ = name + ".err";
  const std::string mark = Mark();
  std::vector<const char*> argv;
  for (const std::string& word : words) argv.push_back(word.c_str());
  argv.push_back(nullptr);
  const int out = open(out_path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  const int err = open(err_path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  STRATA_CHECK(out >= 0 && err >= 0);
  pid_ = fork();
  STRATA_CHECK(pid_ >= 0);
  if (pid_ == 0) {
    setpgid(0, 0);
    putenv(const_cast<char*>(mark.c_str()));
    for (const auto& [variable, value] : environment) setenv(variable.c_str(), value.c_str(), 1);
    if (chdir(directory.c_str()) != 0) _exit(126);
    dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    execvp(argv[0], const_cast<char* const*>(argv.data()));
    _exit(127);
  }
  setpgid(pid_, pid_);
  close(out);
  close(err);
}

Running::~Running() {
  if (pid_ < 0) return;
  kill(-pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

std::string Running::out() const { return ReadText(out_path_); }
std::string Running::err() const { return ReadText(err_path_); }

bool Running::HasEnded() const {
  siginfo_t info = {};
  return waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
         info.si_pid == pid_;
}

bool Running::Says(const std::string& path, const std::string& text) const {
  const Clock::time_point end = Clock::now() + 60s;
  while (Clock::now() < end) {
    const bool has_ended = HasEnded();
    if (ReadText(path).find(text) != std::string::npos) return true;
    if (has_ended) return false;
    std::this_thread::sleep_for(5ms);
  }
  return false;
}

bool Running::SaysOnOut(const std::string& text) const { return Says(out_path_, text); }
bool Running::SaysOnErr(const std::string& text) const { return Says(err_path_, text); }

void Running::Send(int signal_number) const { kill(pid_, signal_number); }

Finished Running::Wait() {
  const Clock::time_point end = Clock::now() + 120s;
  while (!HasEnded() && Clock::now() < end) std::this_thread::sleep_for(5ms);
  if (!HasEnded()) kill(-pid_, SIGKILL);
  int status = 0;
  STRATA_CHECK(waitpid(pid_, &status, 0) == pid_);
  pid_ = -1;
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, out(), err()};
}

Finished RunProgram(const std::vector<std::string>& words, const std::string& directory,
                    const std::vector<std::pair<std::string, std::string>>& environment) {
  return Running(words, directory, environment).Wait();
}

std::vector<std::string> LeftOver() {
  const Clock::time_point end = Clock::now() + 5s;
  std::vector<std::string> found = MarkedProcesses();
  while (!found.empty() && Clock::now() < end) {
    std::this_thread::sleep_for(20ms);
    found = MarkedProcesses();
  }
  return found;
}

std::string ReadText(const std::string& path) {
  std::stringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

std::vector<std::string> LinesOf(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

}  // namespace strata::launch
