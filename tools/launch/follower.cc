#include "tools/launch/follower.h"

#include <fmt/format.h>
#include <sys/prctl.h>

#include <csignal>
#include <filesystem>
#include <memory>
#include <optional>

#include "aio/base/address.h"
#include "tools/launch/channel.h"
#include "tools/launch/commands.h"
#include "tools/launch/node_daemon.h"
#include "tools/launch/process.h"
#include "tools/launch/starter.h"

namespace strata::launch {
namespace {

using namespace std::chrono_literals;

constexpr auto kRetryEvery = 1s;
constexpr auto kTellEvery = 10s;

class Follower {
 public:
  Follower(const Job& job, const NodeHello& hello, const Secret& secret)
      : job_(job),
        hello_(hello),
        secret_(secret),
        address_(TcpAddress(job.master_addr, job.master_port)),
        output_(loop_, STDOUT_FILENO, STDERR_FILENO),
        signals_(loop_, {SIGINT, SIGTERM, SIGHUP, SIGCHLD},
                 [this](int number) { OnSignal(number); }),
        starter_(loop_, ""),
        begin_(EventLoop::Clock::now()) {}

  int Run() {
    Connect();
    loop_.Run();
    StopRanks();
    return exit_code_;
  }

 private:
  void Connect() {
    Result<Descriptor> connection = ConnectTo(address_, 2s);
    if (!connection.ok()) return Retry(connection.status());
    channel_ = Channel::Join(
        loop_, *std::move(connection), ClientKind::kNode, secret_.text,
        {.on_open =
             [this] { channel_->Send(static_cast<char>(Message::kNodeHello), Encode(hello_)); },
         .on_message = [this](char type, std::string_view text) { OnMessage(Message{type}, text); },
         .on_close = [this](const Status& why) { OnClosed(why); }});
  }

  // Node 0 may not have started yet.
  void Retry(const Status& why) {
    const auto waited = EventLoop::Clock::now() - begin_;
    if (why.code() != Code::kUnavailable || waited >= job_.wait) {
      return Fail(fmt::format(
          "cannot reach node 0 at {}: {}{}", address_, why.message(),
          why.code() == Code::kUnavailable ? fmt::format("; waited {} s", job_.wait.count()) : ""));
    }
    if (!told_at_ || EventLoop::Clock::now() - *told_at_ >= kTellEvery) {
      told_at_ = EventLoop::Clock::now();
      output_.Say(fmt::format("waiting for node 0 at {} ({})", address_, why.message()));
    }
    loop_.After(kRetryEvery, [this] { Connect(); });
  }

  void OnClosed(const Status& why) {
    if (is_over_) return;
    if (is_welcome_) return Fail("lost node 0, and with it the job: " + why.message());
    if (why.code() == Code::kPermissionDenied) {
      return Fail(
          fmt::format("{} The secret here is that of {}: give every node the same (copy that "
                      "file from node 0, or set {})",
                      "node 0 does not know this node's secret, or is something else.",
                      secret_.source, kSecretVariable));
    }
    // A node 0 that is just ending, or no launcher at all: that one says nothing and is tried
    // again.
    loop_.Soon([this, why] {
      channel_.reset();
      Retry(why);
    });
  }

  void OnMessage(Message type, std::string_view payload) {
    if (type == Message::kNodeWelcome) {
      is_welcome_ = true;
      output_.Say(
          fmt::format("node-rank {} of {} registered with {}; node 0 shows the output of all "
                      "ranks, logs of this node's ranks are in {}",
                      job_.node_rank, job_.layout.size(), address_, job_.log_dir));
    }
    if (type == Message::kRunDaemon && is_welcome_) Start(CommandsOfDaemon(payload), SIGKILL);
    if (type == Message::kStartRanks && is_welcome_) Start(CommandsOfRanks(payload), SIGTERM);
    if (type == Message::kJobEnded) OnJobEnded(payload);
  }

  void Start(const Result<std::vector<Command>>& commands, int death_signal) {
    const Status started =
        commands.ok() ? starter_.Start(*commands, death_signal) : commands.status();
    if (started.ok()) return;
    output_.Say(started.message());
    TellDaemonEnded(255, started.message());
  }

  // mpirun's.
  Result<std::vector<Command>> CommandsOfDaemon(std::string_view payload) {
    STRATA_ASSIGN_OR_RETURN(RunDaemon wanted, Decode<RunDaemon>(payload));
    STRATA_RETURN_IF_ERROR(CheckIsFirst(Comm::kMpi));
    Command command;
    STRATA_ASSIGN_OR_RETURN(command.words, DaemonWords(wanted.words));
    std::error_code ignored;
    const std::string directory = std::filesystem::current_path(ignored).string();
    command.environment = {{kDirectoryVariable, directory}, {kLogDirVariable, job_.log_dir}};
    return std::vector{std::move(command)};
  }

  // What they run is what was given here; node 0 says only who they are.
  Result<std::vector<Command>> CommandsOfRanks(std::string_view payload) {
    STRATA_ASSIGN_OR_RETURN(StartRanks order, Decode<StartRanks>(payload));
    STRATA_RETURN_IF_ERROR(CheckIsFirst(Comm::kTcp));
    Job job = job_;
    STRATA_ASSIGN_OR_RETURN(job.layout, ParseLayout(order.layout));
    if (job.layout.size() != job_.layout.size() ||
        job.layout[job.node_rank].slots.size() != hello_.num_slots) {
      return Internal("node 0 wants other ranks here than this node has");
    }
    job.comm_port = order.comm_port;
    std::vector<Command> commands = StarterCommands(job, address_, hello_.num_cores);
    for (Command& command : commands)
      command.environment.emplace_back(kTokenVariable, TokenOfJob(secret_, order.nonce));
    return commands;
  }

  Status CheckIsFirst(Comm comm) const {
    if (job_.comm != comm) return Internal("node 0 starts ranks otherwise than this node");
    if (starter_.is_running()) return FailedPrecondition("ranks run here already");
    return OkStatus();
  }

  void TellDaemonEnded(int exit_code, const std::string& text) {
    if (!channel_ || !channel_->is_open()) return;
    channel_->Send(
        static_cast<char>(Message::kDaemonEnded),
        Encode(DaemonEnded{.node_rank = job_.node_rank, .exit_code = exit_code, .text = text}));
  }

  void OnJobEnded(std::string_view payload) {
    Result<JobEnded> end = Decode<JobEnded>(payload);
    if (!end.ok()) return;
    exit_code_ = end->exit_code;
    if (!end->text.empty()) output_.Error(end->text);
    is_over_ = true;
    // A daemon ends on its own when mpirun does, agents when they are told to.
    if (!starter_.is_running()) return loop_.Stop();
    loop_.After(2s, [this] { loop_.Stop(); });
  }

  void OnSignal(int number) {
    if (number == SIGCHLD) return Reap();
    const bool can_ask = is_welcome_ && channel_ && channel_->is_open();
    exit_code_ = 128 + number;
    if (!can_ask || ++num_signals_ > 1) return loop_.Stop();
    output_.Say(fmt::format("signal {}: asking node 0 to stop the job", number));
    channel_->Send(static_cast<char>(Message::kStopWanted), std::to_string(number));
  }

  void Reap() {
    const bool is_last = starter_.Reap();
    if (is_last && is_over_) return loop_.Stop();
    if ((!is_last && !starter_.has_failed()) || is_told_) return;
    is_told_ = true;
    // What agents told node 0 before they ended comes first.
    loop_.After(job_.comm == Comm::kTcp ? 200ms : 0ms, [this] {
      const Ending& ending = starter_.ending();
      TellDaemonEnded(ending.ShellCode(), ending.ok() ? "" : starter_.said());
    });
  }

  // What is left of it, and of its ranks.
  void StopRanks() {
    starter_.EndAndWait(2s);
    KillAllChildren();
  }

  void Fail(const std::string& text) {
    output_.Error("error: " + text);
    exit_code_ = 1;
    loop_.Stop();
  }

  const Job& job_;
  const NodeHello& hello_;
  const Secret& secret_;
  const std::string address_;
  EventLoop loop_;
  JobOutput output_;
  SignalWatch signals_;
  Starter starter_;
  EventLoop::Clock::time_point begin_;
  std::optional<EventLoop::Clock::time_point> told_at_;
  std::unique_ptr<Channel> channel_;
  bool is_welcome_ = false;
  bool is_over_ = false;
  int num_signals_ = 0;
  bool is_told_ = false;  // that what was started here has ended
  int exit_code_ = 1;
};

}  // namespace

int Follow(const Job& job, const NodeHello& hello, const Secret& secret) {
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  return Follower(job, hello, secret).Run();
}

}  // namespace strata::launch
