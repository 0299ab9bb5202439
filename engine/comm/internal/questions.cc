#include "engine/comm/internal/questions.h"

#include <fmt/format.h>

#include <cinttypes>
#include <cstdio>

namespace strata::engine {

std::string FailureText(std::string_view why) { return fmt::format("!{}", why); }
bool IsFailure(std::string_view text) { return text.starts_with('!'); }

std::string QuestionText(const Question& question) {
  return fmt::format("? {} {}", question.rank, static_cast<int>(question.channel));
}

std::string AnswerText(const Question& question, uint32_t from, const Answer& answer) {
  return fmt::format("= {} {} {} {} {}", from, static_cast<int>(question.channel), answer.waits_for,
                     answer.progress, answer.arrived);
}

std::optional<Question> Questions::Read(const std::string& text) {
  uint32_t rank = 0;
  uint32_t channel = 0;
  Answer answer;
  if (std::sscanf(text.c_str(), "= %u %u %u %" SCNu64 " %" SCNu64, &rank, &channel,
                  &answer.waits_for, &answer.progress, &answer.arrived) == 5) {
    std::lock_guard lock(mutex_);
    answers_[{rank, static_cast<ChannelId>(channel)}] = {answer, Clock::now()};
    return std::nullopt;
  }
  const bool is_question = std::sscanf(text.c_str(), "? %u %u", &rank, &channel) == 2;
  if (!is_question || channel >= kNumChannels) return std::nullopt;
  return Question{rank, static_cast<ChannelId>(channel)};
}

std::optional<Answer> Questions::AnswerOf(uint32_t rank, ChannelId channel,
                                          Clock::time_point since) const {
  std::lock_guard lock(mutex_);
  const auto found = answers_.find({rank, channel});
  if (found == answers_.end() || found->second.when < since) return std::nullopt;
  return found->second.answer;
}

}  // namespace strata::engine
