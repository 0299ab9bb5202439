// Children that do not outlive their parent, and signals as events.
#pragma once

#include <sys/types.h>

#include <csignal>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "aio/base/descriptor.h"
#include "aio/base/status.h"
#include "tools/launch/event_loop.h"

namespace strata::launch {

struct ChildOptions {
  std::vector<std::string> words;
  std::vector<std::pair<std::string, std::string>> environment = {};  // set over what is there
  // Sent to the child when the thread that started it is gone, however it went.
  int death_signal = SIGKILL;
};

// In a process group of its own, its input empty. Its output and errors are pipes.
struct Child {
  pid_t pid = -1;
  Descriptor out;
  Descriptor err;
};
// kNotFound and kin with the name of the program when it cannot be run.
Result<Child> StartChild(const ChildOptions& options);

// Whether StartChild() would find a program of this name on PATH.
bool IsOnPath(const std::string& name);

// How a process ended.
struct Ending {
  int exit_code = 0;
  int signal_number = 0;  // 0: it exited

  bool ok() const { return exit_code == 0 && signal_number == 0; }
  // As shells count: 128 + signal.
  int ShellCode() const { return signal_number != 0 ? 128 + signal_number : exit_code; }
};
Ending EndingOf(int wait_status);

// "exit code 3", "killed by signal 9 (Killed)".
std::string Describe(const Ending& ending);

// Kills every child of this process and what they left to it (it must be their subreaper), and
// reaps them. One that the kernel does not let go is named on stderr after a few seconds, and left.
void KillAllChildren();

// While it lives, these signals call back instead of doing what they do. One per process.
class SignalWatch {
 public:
  SignalWatch(EventLoop& loop, const std::vector<int>& signals,
              std::function<void(int signal_number)> on_signal);
  ~SignalWatch();
  SignalWatch(const SignalWatch&) = delete;

 private:
  EventLoop& loop_;
  sigset_t before_;
  Descriptor fd_;
};

// Calls back with whole lines, each with its newline, as many at once as there are; a last line
// without one gets one. Lines of more than 64 KiB are cut.
class LineReader {
 public:
  LineReader(EventLoop& loop, Descriptor from, std::function<void(std::string_view lines)> on_lines,
             std::function<void()> on_end);
  ~LineReader();
  LineReader(const LineReader&) = delete;

  bool is_at_end() const { return !from_.is_open(); }
  // What has come so far, when its writers do not close it.
  void Finish();

 private:
  void Read();
  void End();

  EventLoop& loop_;
  Descriptor from_;
  std::string partial_;
  std::function<void(std::string_view)> on_lines_;
  std::function<void()> on_end_;
};

}  // namespace strata::launch
