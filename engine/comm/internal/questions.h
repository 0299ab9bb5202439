// Notices between ranks of different nodes: failures, and who waits for whom.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "engine/comm/communicator.h"

namespace strata::engine {

// Whom a rank waits for on a channel, asked by `rank`.
struct Question {
  uint32_t rank = 0;
  ChannelId channel = ChannelId::kControl;
};

std::string FailureText(std::string_view why);
bool IsFailure(std::string_view text);
std::string QuestionText(const Question& question);
// `waits_for` is a rank + 1; 0 for nobody.
std::string AnswerText(const Question& question, uint32_t from, uint32_t waits_for);

// The answers that came. Thread-safe.
class Questions {
 public:
  using Clock = std::chrono::steady_clock;
  // The question that `text` is, if it is one; keeps it, if it is an answer.
  std::optional<Question> Read(const std::string& text);
  // 0 too when none has come since.
  uint32_t Answer(uint32_t rank, ChannelId channel, Clock::time_point since) const;

 private:
  struct Answered {
    uint32_t waits_for = 0;
    Clock::time_point when = {};
  };
  mutable std::mutex mutex_;
  std::map<std::pair<uint32_t, ChannelId>, Answered> answers_;
};

}  // namespace strata::engine
