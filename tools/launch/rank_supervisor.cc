#include "tools/launch/rank_supervisor.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "tools/launch/split.h"

namespace strata::launch {
namespace {

using namespace std::chrono_literals;

constexpr size_t kTailLines = 10;
constexpr size_t kTailLineBytes = 2000;
constexpr auto kTellEvery = 10s;
// After the SIGKILL: an agent that does not report by then is not waited for.
constexpr auto kKillTime = 500ms;

double SecondsSince(EventLoop::Clock::time_point begin) {
  return std::chrono::duration<double>(EventLoop::Clock::now() - begin).count();
}

}  // namespace

RankSupervisor::RankSupervisor(EventLoop& loop, const Job& job, JobOutput& output,
                               std::function<void()> on_all_ended)
    : loop_(loop),
      job_(job),
      output_(output),
      on_all_ended_(std::move(on_all_ended)),
      world_size_(WorldSize(job.layout)),
      begin_(EventLoop::Clock::now()) {
  timer_ = loop_.After(kTellEvery, [this] { TellWhoIsMissing(); });
}

RankSupervisor::~RankSupervisor() {
  if (timer_) loop_.Cancel(*timer_);
}

std::vector<uint32_t> RankSupervisor::Missing() const {
  std::vector<uint32_t> missing;
  for (uint32_t rank = 0; rank < world_size_; ++rank)
    if (!ranks_.contains(rank)) missing.push_back(rank);
  return missing;
}

void RankSupervisor::TellWhoIsMissing() {
  timer_.reset();
  const std::vector<uint32_t> missing = Missing();
  if (missing.empty() || stopping_) return;
  const std::string who =
      fmt::format("{} of {} ranks: {}", missing.size(), world_size_, FormatNumbers(missing));
  if (EventLoop::Clock::now() - begin_ >= job_.wait) {
    return Fail(1, fmt::format("waited {} s in vain for {}", job_.wait.count(), who), {});
  }
  output_.Say("waiting for " + who);
  timer_ = loop_.After(kTellEvery, [this] { TellWhoIsMissing(); });
}

RankSupervisor::Rank* RankSupervisor::RankOf(Channel* agent) {
  for (auto& [number, rank] : ranks_)
    if (rank.agent == agent) return &rank;
  return nullptr;
}

std::string RankSupervisor::NameOf(const Rank& rank) const {
  return fmt::format("rank {} on {} (pid {})", rank.started.rank, rank.started.host,
                     rank.started.pid);
}

void RankSupervisor::OnMessage(Channel* agent, Message type, std::string_view payload) {
  if (type == Message::kAgentHere) return OnAgentHere(agent, payload);
  Rank* rank = RankOf(agent);
  if (rank == nullptr) return;
  if (type == Message::kRankStarted) OnStarted(*rank, payload);
  if (type == Message::kOutLines) OnLines(*rank, JobOutput::Stream::kOut, payload);
  if (type == Message::kErrLines) OnLines(*rank, JobOutput::Stream::kErr, payload);
  if (type == Message::kRankEnded) {
    Result<RankEnded> ended = Decode<RankEnded>(payload);
    if (ended.ok()) OnEnded(*rank, *ended);
  }
}

void RankSupervisor::OnAgentHere(Channel* agent, std::string_view payload) {
  Result<uint32_t> number = ParseNumber(payload);
  if (!number.ok() || *number >= world_size_ || ranks_.contains(*number)) return;
  Rank& rank = ranks_[*number];
  rank.agent = agent;
  rank.started.rank = *number;
  rank.started.host = job_.layout[PlaceOf(job_.layout, *number).node_rank].host;
  rank.begin = EventLoop::Clock::now();
  if (told_end_) return agent->Send(static_cast<char>(Message::kRelease), "");
  if (stopping_) agent->Send(static_cast<char>(Message::kStop), "");
}

void RankSupervisor::OnStarted(Rank& rank, std::string_view payload) {
  Result<RankStarted> started = Decode<RankStarted>(payload);
  if (!started.ok() || started->rank != rank.started.rank) return;
  rank.started = *started;
  output_.Say(fmt::format("rank {} on {}, pid {}: {}", started->rank, started->host, started->pid,
                          started->binding));
}

void RankSupervisor::OnLines(Rank& rank, JobOutput::Stream stream, std::string_view lines) {
  output_.Lines(rank.started.rank, stream, lines);
  if (stream != JobOutput::Stream::kErr) return;
  if (lines.ends_with('\n')) lines.remove_suffix(1);
  for (std::string_view line : Split(lines, '\n'))
    rank.tail.emplace_back(line.substr(0, kTailLineBytes));
  if (rank.tail.size() > kTailLines)
    rank.tail.erase(rank.tail.begin(), rank.tail.end() - kTailLines);
}

void RankSupervisor::OnEnded(Rank& rank, const RankEnded& ended) {
  if (rank.ended) return;
  rank.ended = ended;
  if (ended.was_stopped && !stopping_) {
    // Not by us: MPI stops all when one rank aborts or an agent fails. That one will report.
    exit_code_ = 1;
    Stop(fmt::format("{} was stopped by what started it", NameOf(rank)));
  } else if (!ended.was_stopped && !ended.ending.ok()) {
    Fail(ended.ending.ShellCode(),
         fmt::format("{} failed first: {} after {:.1f} s", NameOf(rank),
                     ended.error.empty() ? Describe(ended.ending) : ended.error,
                     SecondsSince(rank.begin)),
         rank.started.rank);
  }
  CheckAllEnded();
}

void RankSupervisor::OnClosed(Channel* agent, const Status& why) {
  Rank* rank = RankOf(agent);
  if (rank == nullptr) return;
  rank->agent = nullptr;
  if (rank->ended) return;
  // Its agent was killed, or its machine is gone.
  rank->ended = RankEnded{.ending = {.exit_code = 1}, .error = "lost"};
  if (!stopping_) {
    Fail(1, fmt::format("{} was lost: {}", NameOf(*rank), why.message()), rank->started.rank);
  }
  CheckAllEnded();
}

void RankSupervisor::Fail(int exit_code, const std::string& text, std::optional<uint32_t> rank) {
  if (signalled_ || !failure_.empty()) return;
  exit_code_ = exit_code;
  failure_ = text;
  failed_rank_ = rank;
  if (!stopping_) Stop(text);
}

void RankSupervisor::StopBySignal(int signal_number) {
  if (stopping_) return;
  signalled_ = true;
  exit_code_ = 128 + signal_number;
  Stop(fmt::format("stopping on signal {}", signal_number));
}

void RankSupervisor::StopByFailure(int exit_code, const std::string& text) {
  Fail(exit_code, text, {});
  CheckAllEnded();
}

void RankSupervisor::Stop(const std::string& why) {
  stopping_ = true;
  stopping_since_ = EventLoop::Clock::now();
  const auto running = std::count_if(ranks_.begin(), ranks_.end(),
                                     [](const auto& entry) { return !entry.second.ended; });
  if (running > 0) {
    output_.Say(why);
    output_.Say(fmt::format("stopping {} rank{}: SIGTERM, and SIGKILL after {} s", running,
                            running == 1 ? "" : "s", job_.grace.count()));
  }
  SendToRunning(Message::kStop);
  if (timer_) loop_.Cancel(*timer_);
  timer_ = loop_.After(job_.grace, [this] {
    timer_.reset();
    KillAll();
  });
  CheckAllEnded();
}

void RankSupervisor::KillAll() {
  SendToRunning(Message::kKill);
  if (timer_) loop_.Cancel(*timer_);
  timer_ = loop_.After(kKillTime, [this] {
    timer_.reset();
    for (auto& [number, rank] : ranks_)
      if (!rank.ended) rank.ended = RankEnded{.ending = {.exit_code = 1}, .error = "lost"};
    CheckAllEnded();
  });
}

void RankSupervisor::SendToRunning(Message message) {
  for (auto& [number, rank] : ranks_) {
    if (!rank.ended && rank.agent != nullptr && rank.agent->is_open())
      rank.agent->Send(static_cast<char>(message), "");
  }
}

void RankSupervisor::OnStarterEnded(const Ending& ending, const std::string& said) {
  starter_ended_ = true;
  const std::vector<uint32_t> missing = Missing();
  const std::string how = fmt::format("{}{}{}", Describe(ending), said.empty() ? "" : ":\n", said);
  if (!missing.empty()) {
    Fail(ending.ok() ? 1 : ending.ShellCode(),
         fmt::format("{} of {} ranks did not start; what starts them ended with {}", missing.size(),
                     world_size_, how),
         {});
  } else if (stopping_ && exit_code_ != 0) {
    Fail(1, "what started the ranks stopped them and ended with " + how, {});
  }
  // Agents of ranks that run are about to be lost, and say so by that.
  CheckAllEnded();
}

void RankSupervisor::CheckAllEnded() {
  if (told_end_) return;
  const bool all_here = ranks_.size() == world_size_ || stopping_ || starter_ended_;
  const bool all_over = std::all_of(ranks_.begin(), ranks_.end(), [](const auto& entry) {
    return entry.second.ended.has_value();
  });
  if (!all_here || !all_over) return;
  told_end_ = true;
  for (auto& [number, rank] : ranks_) {
    if (rank.agent != nullptr && rank.agent->is_open())
      rank.agent->Send(static_cast<char>(Message::kRelease), "");
  }
  // Not from within the call that was this end's cause.
  loop_.Soon(on_all_ended_);
}

std::string RankSupervisor::LastWords() const {
  if (failure_.empty()) return {};
  std::string text = "error: " + failure_;
  if (!failed_rank_) return text;
  const Rank& rank = ranks_.at(*failed_rank_);
  if (!rank.tail.empty()) {
    text += "\n  its last errors:";
    for (const std::string& line : rank.tail) text += "\n    " + line;
  }
  if (rank.started.log.empty()) return text;
  return text + fmt::format("\n  its log: {} on {}", rank.started.log, rank.started.host);
}

}  // namespace strata::launch
