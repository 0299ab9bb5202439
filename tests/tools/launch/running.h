// Programs as a user's shells run them: several at once, looked at and signalled from outside.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace strata::launch {

struct Finished {
  int exit_code = -1;  // -1: ended by a signal
  std::string out;
  std::string err;
};

// Every process started through it, and all that they start, carry a mark in their environment.
class Running {
 public:
  // `directory` is where it runs and where its output is kept.
  Running(const std::vector<std::string>& words, const std::string& directory,
          const std::vector<std::pair<std::string, std::string>>& environment = {});
  ~Running();  // kills it if it still runs
  Running(const Running&) = delete;

  std::string out() const;
  std::string err() const;
  // True when it says so; false when it ends, or a minute is over, before it does.
  bool SaysOnOut(const std::string& text) const;
  bool SaysOnErr(const std::string& text) const;
  void Send(int signal_number) const;
  // SIGKILL to it and its process group after two minutes.
  Finished Wait();

 private:
  bool Says(const std::string& path, const std::string& text) const;
  bool HasEnded() const;

  std::string directory_;
  pid_t pid_ = -1;
  std::string out_path_;
  std::string err_path_;
};

Finished RunProgram(const std::vector<std::string>& words, const std::string& directory,
                    const std::vector<std::pair<std::string, std::string>>& environment = {});

// The command lines of marked processes that are still there, after those that are ending had a few
// seconds to. Empty is as it should be.
std::vector<std::string> LeftOver();

std::string ReadText(const std::string& path);
std::vector<std::string> LinesOf(const std::string& text);

}  // namespace strata::launch
