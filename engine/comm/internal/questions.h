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

// How a rank gets on, and whom it waits for on a channel; asked by `rank`.
struct Question {
  uint32_t rank = 0;
  ChannelId channel = ChannelId::kControl;
};

std::string FailureText(std::string_view why);
bool IsFailure(std::string_view text);
std::string QuestionText(const Question& question);
struct Answer {
  uint32_t waits_for = 0;  // a rank + 1; 0: nobody, or nobody knows
  uint64_t progress = 0;   // as Communicator::ShowProgress() was told
  uint64_t arrived = 0;    // at so many collectives on its GPU
};
std::string AnswerText(const Question& question, uint32_t from, const Answer& answer);

// The answers that came. Thread-safe.
class Questions {
 public:
  using Clock = std::chrono::steady_clock;
  // The question that `text` is, if it is one; keeps it, if it is an answer.
  std::optional<Question> Read(const std::string& text);
  // Nothing when none has come since.
  std::optional<Answer> AnswerOf(uint32_t rank, ChannelId channel, Clock::time_point since) const;

 private:
  struct Answered {
    Answer answer;
    Clock::time_point when = {};
  };
  mutable std::mutex mutex_;
  std::map<std::pair<uint32_t, ChannelId>, Answered> answers_;
};

}  // namespace strata::engine
