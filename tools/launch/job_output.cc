#include "tools/launch/job_output.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>

#include "tools/launch/split.h"

namespace strata::launch {
namespace {

constexpr size_t kMaxWaitingBytes = 16 << 20;

// As much as a pipe that is ready takes without blocking.
constexpr size_t kWriteBytes = PIPE_BUF;

bool IsReady(int fd) {
  pollfd writable = {fd, POLLOUT, 0};
  return poll(&writable, 1, 0) > 0;
}

}  // namespace

JobOutput::JobOutput(EventLoop& loop, int out, int err) : loop_(loop) {
  sinks_[0].fd = out;
  sinks_[1].fd = err;
}

JobOutput::~JobOutput() {
  for (Sink& sink : sinks_) loop_.Forget(sink.fd);
}

void JobOutput::Lines(uint32_t rank, Stream stream, std::string_view lines) {
  if (lines.ends_with('\n')) lines.remove_suffix(1);
  const bool is_plain = rank == 0 && stream == Stream::kOut;
  const std::string mark = is_plain ? "" : fmt::format("[{}] ", rank);
  for (std::string_view line : Split(lines, '\n')) Put(stream, fmt::format("{}{}\n", mark, line));
}

void JobOutput::Say(std::string_view text) {
  for (std::string_view line : Split(text, '\n'))
    Put(Stream::kErr, fmt::format("launch: {}\n", line));
}

void JobOutput::Error(std::string_view text) { Put(Stream::kErr, fmt::format("{}\n", text)); }

void JobOutput::Put(Stream stream, std::string line) {
  Sink& sink = sinks_[static_cast<size_t>(stream)];
  if (sink.fd < 0) return;
  sink.num_bytes += line.size();
  sink.waiting.push_back(std::move(line));
  while (sink.num_bytes > kMaxWaitingBytes && sink.waiting.size() > 2) {
    // The first may be half written.
    sink.num_bytes -= sink.waiting[1].size();
    sink.waiting.erase(sink.waiting.begin() + 1);
    ++sink.num_left_out;
  }
  Drain(sink);
}

void JobOutput::Drain(Sink& sink) {
  while (!sink.waiting.empty() && IsReady(sink.fd)) {
    std::string& line = sink.waiting.front();
    const ssize_t count = write(sink.fd, line.data(), std::min(line.size(), kWriteBytes));
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (count < 0) {  // nobody reads it any more: the logs are still written
      loop_.Forget(sink.fd);
      sink.waiting.clear();
      sink.fd = -1;
      return;
    }
    sink.num_bytes -= static_cast<size_t>(count);
    line.erase(0, static_cast<size_t>(count));
    if (!line.empty()) continue;
    sink.waiting.pop_front();
    if (sink.waiting.empty() && sink.num_left_out > 0) {
      sink.waiting.push_back(
          fmt::format("launch: {} lines are not shown here, as what reads them is too slow; the "
                      "logs of the ranks have them\n",
                      sink.num_left_out));
      sink.num_bytes += sink.waiting.back().size();
      sink.num_left_out = 0;
    }
  }
  if (sink.waiting.empty()) {
    loop_.Forget(sink.fd);
  } else {
    loop_.Watch(sink.fd, POLLOUT, [this, &sink](short) { Drain(sink); });
  }
}

}  // namespace strata::launch
