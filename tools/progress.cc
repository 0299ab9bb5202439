#include "tools/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "aio/base/check.h"

namespace strata::tools {
namespace {

constexpr std::string_view kRewrite = "\r\x1b[K";  // to the first column, and clear the line

}  // namespace

Progress::Progress(int fd, Terminal terminal, uint64_t log_every)
    : fd_(fd), terminal_(terminal), log_every_(log_every) {
  STRATA_CHECK(log_every > 0);
}

Progress::~Progress() {
  if (line_is_open_) Write("\n");
}

void Progress::Work(const std::string& what, uint64_t done, uint64_t total) {
  bool is_new = what != work_;
  work_ = what;
  if (!terminal_.is_live) {
    if (is_new) Write(what + "\n");
    return;
  }
  uint64_t percent = total > 0 ? done * 100 / total : 100;
  Write(fmt::format("{}{} {:3} %", kRewrite, what, percent));
  line_is_open_ = true;
  if (done >= total) Say(fmt::format("{} done", what));
}

void Progress::Now(const std::string& what, std::string_view figures) {
  bool is_new = what != work_;
  work_ = what;
  if (!terminal_.is_live) {
    if (is_new) Write(what + "\n");
    return;
  }
  Write(fmt::format("{}{}  {}", kRewrite, what, figures));
  line_is_open_ = true;
}

void Progress::Step(const StepReport& report) {
  if (terminal_.is_live) {
    // The last column stays free: some terminals wrap as soon as it is written.
    std::string line = TerminalStepLine(report, WidthOf(fd_) - 1, terminal_.colour);
    Write(std::string(kRewrite) + line);
    line_is_open_ = true;
    return;
  }
  bool is_due = report.step % log_every_ == 0 || report.step == 1;
  if (is_due || report.step == report.total_steps) Write(PlainStepLine(report) + "\n");
}

void Progress::Say(std::string_view line) {
  // The open line is replaced; the next step shows it again below.
  Write(std::string(line_is_open_ ? kRewrite : "") + std::string(line) + "\n");
  line_is_open_ = false;
}

// A run does not fail because its log does: a full disk under a redirected stdout costs lines, not
// the training.
void Progress::Write(std::string_view text) {
  while (!text.empty()) {
    ssize_t count = write(fd_, text.data(), text.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return;
    text.remove_prefix(static_cast<size_t>(count));
  }
}

}  // namespace strata::tools
