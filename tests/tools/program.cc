#include "tests/tools/program.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "aio/base/check.h"

namespace strata::tools {
namespace {

using Clock = std::chrono::steady_clock;

struct Child {
  pid_t pid = -1;
  int out = -1;
  int err = -1;
};

Child Start(const std::vector<std::string>& arguments) {
  std::array<int, 2> out{};
  std::array<int, 2> err{};
  STRATA_CHECK(pipe(out.data()) == 0 && pipe(err.data()) == 0);
  std::vector<const char*> argv = {STRATA_PROGRAM};
  for (const std::string& argument : arguments) argv.push_back(argument.c_str());
  argv.push_back(nullptr);
  pid_t pid = fork();
  STRATA_CHECK(pid >= 0);
  if (pid == 0) {
    dup2(out[1], STDOUT_FILENO);
    dup2(err[1], STDERR_FILENO);
    for (int fd : {out[0], out[1], err[0], err[1]}) close(fd);
    execv(STRATA_PROGRAM, const_cast<char* const*>(argv.data()));
    _exit(127);
  }
  close(out[1]);
  close(err[1]);
  return {pid, out[0], err[0]};
}

// Reads what is there; false at the end.
bool Drain(int fd, std::string& text) {
  std::array<char, 4096> buffer;
  ssize_t count = read(fd, buffer.data(), buffer.size());
  if (count > 0) text.append(buffer.data(), static_cast<size_t>(count));
  return count > 0;
}

constexpr Clock::time_point kNever = Clock::time_point::max();

// kNever as long as that is not known.
Clock::time_point DueAt(const Disturbance& disturbance, const std::string& out) {
  bool is_known = out.find(disturbance.when_out_contains) != std::string::npos;
  return is_known ? Clock::now() + disturbance.after : kNever;
}

// Until the program closes both.
void ReadOutput(const Child& child, const Disturbance* disturbance, Outcome& outcome) {
  Clock::time_point due = kNever;
  std::array<pollfd, 2> fds = {{{child.out, POLLIN, 0}, {child.err, POLLIN, 0}}};
  while (fds[0].fd >= 0 || fds[1].fd >= 0) {
    if (disturbance != nullptr && due == kNever) due = DueAt(*disturbance, outcome.out);
    if (Clock::now() >= due) {
      kill(child.pid, disturbance->signal_number);
      disturbance = nullptr;
      due = kNever;
    }
    STRATA_CHECK(poll(fds.data(), fds.size(), due == kNever ? -1 : 1) >= 0);
    if (fds[0].revents != 0 && !Drain(child.out, outcome.out)) fds[0].fd = -1;
    if (fds[1].revents != 0 && !Drain(child.err, outcome.err)) fds[1].fd = -1;
  }
}

}  // namespace

Outcome RunStrata(const std::vector<std::string>& arguments,
                  const std::optional<Disturbance>& disturbance) {
  Outcome outcome;
  Clock::time_point begin = Clock::now();
  Child child = Start(arguments);
  ReadOutput(child, disturbance.has_value() ? &*disturbance : nullptr, outcome);
  int status = 0;
  rusage usage{};
  STRATA_CHECK(wait4(child.pid, &status, 0, &usage) == child.pid);
  close(child.out);
  close(child.err);
  outcome.was_killed = WIFSIGNALED(status);
  if (WIFEXITED(status)) outcome.exit_code = WEXITSTATUS(status);
  outcome.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  outcome.peak_rss_bytes = static_cast<uint64_t>(usage.ru_maxrss) * 1024;
  return outcome;
}

std::string WriteTinyConfig(const std::string& directory, int steps) {
  std::filesystem::create_directories(directory + "/nvme");
  std::ofstream text(directory + "/text.txt");
  std::mt19937_64 random(5);
  for (int i = 0; i < 20000; ++i) text << static_cast<char>('a' + random() % 26);
  std::string path = directory + "/tiny.toml";
  std::ofstream(path) << fmt::format(R"([model]
vocab_size = 300
hidden_size = 64
intermediate_size = 160
num_hidden_layers = 2
num_attention_heads = 4
num_key_value_heads = 2
[data]
path = "text.txt"
seq_len = 32
[train]
device = "cpu"
run_dir = "{0}/run"
steps = {1}
train_batch_size = 2
seed = 3
threads = 1
[zero_optimization]
stage = 3
[zero_optimization.offload_optimizer]
device = "nvme"
nvme_path = "{0}/nvme"
[zero_optimization.offload_param]
device = "nvme"
nvme_path = "{0}/nvme"
[memory]
device = "8MiB"
host = "8MiB"
[checkpoint]
every_steps = 7
keep_last = 1
)",
                                     directory, steps);
  return path;
}

std::string JsonValue(const std::string& out, const std::string& key) {
  size_t end = out.find_last_not_of('\n');
  if (end == std::string::npos) return {};
  size_t begin = out.rfind('\n', end);
  begin = begin == std::string::npos ? 0 : begin + 1;
  nlohmann::json json =
      nlohmann::json::parse(out.substr(begin, end + 1 - begin), nullptr, /*exceptions=*/false);
  if (json.is_discarded() || !json.contains(key)) return {};
  return json[key].is_string() ? json[key].get<std::string>() : json[key].dump();
}

}  // namespace strata::tools
