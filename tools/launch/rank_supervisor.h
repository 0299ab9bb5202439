// The ranks of a running job, through their agents: who has started, who ended how, who failed
// first; and how all are stopped.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "tools/launch/channel.h"
#include "tools/launch/event_loop.h"
#include "tools/launch/job.h"
#include "tools/launch/job_output.h"
#include "tools/launch/messages.h"

namespace strata::launch {

class RankSupervisor {
 public:
  // `on_all_ended`: no rank runs any more, and agents were told to end. Once.
  RankSupervisor(EventLoop& loop, const Job& job, JobOutput& output,
                 std::function<void()> on_all_ended);
  ~RankSupervisor();
  RankSupervisor(const RankSupervisor&) = delete;

  // Of channels that are open and belong to agents.
  void OnMessage(Channel* agent, Message type, std::string_view payload);
  void OnClosed(Channel* agent, const Status& why);

  // Stops every rank, and those that start later. Exit code 128 + signal.
  void StopBySignal(int signal_number);
  // The same for a failure that is no rank's. `text` is what happened.
  void StopByFailure(int exit_code, const std::string& text);
  // SIGKILL now.
  void KillAll();

  // What started the agents is gone, so no more come.
  void OnStarterEnded(const Ending& ending, const std::string& said);

  bool is_stopping() const { return stopping_; }
  // Since when; once it is.
  EventLoop::Clock::time_point stopping_since() const { return stopping_since_; }
  // Every rank, or after a stop every rank that had started, has ended.
  bool all_ended() const { return told_end_; }
  int exit_code() const { return exit_code_; }
  // What to show last: the first failure, with its last words and its log. Empty if all went well.
  std::string LastWords() const;

 private:
  struct Rank {
    RankStarted started;
    Channel* agent = nullptr;
    std::optional<RankEnded> ended;
    std::vector<std::string> tail;  // the last lines of its errors
    EventLoop::Clock::time_point begin;
  };

  Rank* RankOf(Channel* agent);
  void OnAgentHere(Channel* agent, std::string_view payload);
  void OnStarted(Rank& rank, std::string_view payload);
  void OnLines(Rank& rank, JobOutput::Stream stream, std::string_view lines);
  void OnEnded(Rank& rank, const RankEnded& ended);
  void Fail(int exit_code, const std::string& text, std::optional<uint32_t> rank);
  void Stop(const std::string& why);
  void SendToRunning(Message message);
  void CheckAllEnded();
  void TellWhoIsMissing();
  std::vector<uint32_t> Missing() const;
  std::string NameOf(const Rank& rank) const;

  EventLoop& loop_;
  const Job& job_;
  JobOutput& output_;
  std::function<void()> on_all_ended_;
  std::map<uint32_t, Rank> ranks_;  // that have started
  const uint32_t world_size_;
  EventLoop::Clock::time_point begin_;
  bool stopping_ = false;
  EventLoop::Clock::time_point stopping_since_;
  bool starter_ended_ = false;
  bool told_end_ = false;
  bool signalled_ = false;
  int exit_code_ = 0;
  std::string failure_;  // empty: none, or not known yet
  std::optional<uint32_t> failed_rank_;
  std::optional<EventLoop::TimerId> timer_;
};

}  // namespace strata::launch
