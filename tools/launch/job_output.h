// What a job's ranks and its launcher print, merged: whole lines, marked by rank.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>

#include "tools/launch/event_loop.h"

namespace strata::launch {

// Never blocks: where the reader of our output is slow, lines wait, and beyond a limit the oldest
// are left out (the logs of the ranks have them) and counted.
class JobOutput {
 public:
  enum class Stream { kOut = 0, kErr = 1 };

  // Writes to these descriptors. They outlive it.
  JobOutput(EventLoop& loop, int out, int err);
  ~JobOutput();
  JobOutput(const JobOutput&) = delete;

  // Whole lines. Rank 0's output goes out as it is, so that it can be piped on; everything else is
  // marked: "[1] text".
  void Lines(uint32_t rank, Stream stream, std::string_view lines);
  // "launch: text" on stderr.
  void Say(std::string_view text);
  // As it is, to stderr.
  void Error(std::string_view text);

  bool is_flushed() const { return sinks_[0].waiting.empty() && sinks_[1].waiting.empty(); }

 private:
  struct Sink {
    int fd = -1;
    std::deque<std::string> waiting;
    size_t num_bytes = 0;
    uint64_t num_left_out = 0;
  };
  void Put(Stream stream, std::string line);
  void Drain(Sink& sink);

  EventLoop& loop_;
  std::array<Sink, 2> sinks_;
};

}  // namespace strata::launch
