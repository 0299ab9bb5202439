#include "engine/comm/internal/questions.h"

#include <fmt/format.h>

#include <cstdio>

namespace strata::engine {

std::string FailureText(std::string_view why) { return fmt::format("!{}", why); }
bool IsFailure(std::string_view text) { return text.starts_with('!'); }

std::string QuestionText(const Question& question) {
  return fmt::format("? {} {}", question.rank, static_cast<int>(question.channel));
}

std::string AnswerText(const Question& question, uint32_t from, uint32_t waits_for) {
  return fmt::format("= {} {} {}", from, static_cast<int>(question.channel), waits_for);
}

std::optional<Question> Questions::Read(const std::string& text) {
  uint32_t rank = 0;
  uint32_t channel = 0;
  uint32_t waits_for = 0;
  if (std::sscanf(text.c_str(), "= %u %u %u", &rank, &channel, &waits_for) == 3) {
    std::lock_guard lock(mutex_);
    answers_[{rank, static_cast<ChannelId>(channel)}] = {waits_for, Clock::now()};
    return std::nullopt;
  }
  const bool is_question = std::sscanf(text.c_str(), "? %u %u", &rank, &channel) == 2;
  if (!is_question || channel >= kNumChannels) return std::nullopt;
  return Question{rank, static_cast<ChannelId>(channel)};
}

uint32_t Questions::Answer(uint32_t rank, ChannelId channel, Clock::time_point since) const {
  std::lock_guard lock(mutex_);
  const auto found = answers_.find({rank, channel});
  const bool is_there = found != answers_.end() && found->second.when >= since;
  return is_there ? found->second.waits_for : 0;
}

}  // namespace strata::engine
