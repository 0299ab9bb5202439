#include "tools/launch/follower.h"

#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <memory>
#include <optional>

#include "aio/base/address.h"
#include "tools/launch/channel.h"
#include "tools/launch/commands.h"
#include "tools/launch/node_daemon.h"
#include "tools/launch/process.h"

namespace strata::launch {
namespace {

using namespace std::chrono_literals;

constexpr auto kRetryEvery = 1s;
constexpr auto kTellEvery = 10s;
constexpr size_t kSaidBytes = 4096;

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
        begin_(EventLoop::Clock::now()) {}

  int Run() {
    Connect();
    loop_.Run();
    StopDaemon();
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
    if (type == Message::kRunDaemon && is_welcome_) OnRunDaemon(payload);
    if (type == Message::kJobEnded) OnJobEnded(payload);
  }

  void OnRunDaemon(std::string_view payload) {
    Result<Child> child = StartDaemon(payload);
    if (!child.ok()) {
      output_.Say(child.status().message());
      return TellDaemonEnded(255, child.status().message());
    }
    daemon_ = child->pid;
    const auto keep = [this](std::string_view lines) {
      said_ += lines;
      if (said_.size() > kSaidBytes) said_.erase(0, said_.size() - kSaidBytes);
    };
    out_ = std::make_unique<LineReader>(loop_, std::move(child->out), keep, nullptr);
    err_ = std::make_unique<LineReader>(loop_, std::move(child->err), keep, nullptr);
  }

  Result<Child> StartDaemon(std::string_view payload) {
    STRATA_ASSIGN_OR_RETURN(RunDaemon wanted, Decode<RunDaemon>(payload));
    if (daemon_ > 0) return FailedPrecondition("a daemon runs here already");
    STRATA_ASSIGN_OR_RETURN(std::vector<std::string> words, DaemonWords(wanted.words));
    std::error_code ignored;
    const std::string directory = std::filesystem::current_path(ignored).string();
    return StartChild(
        {.words = std::move(words),
         .environment = {{kDirectoryVariable, directory}, {kLogDirVariable, job_.log_dir}},
         .death_signal = SIGKILL});
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
    // The daemon ends on its own when mpirun does.
    if (daemon_ < 0) return loop_.Stop();
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
    int status = 0;
    for (pid_t pid = waitpid(-1, &status, WNOHANG); pid > 0; pid = waitpid(-1, &status, WNOHANG)) {
      if (pid != daemon_) continue;
      daemon_ = -1;
      out_->Finish();
      err_->Finish();
      const Ending ending = EndingOf(status);
      TellDaemonEnded(ending.ShellCode(), ending.ok() ? "" : said_);
      if (is_over_) loop_.Stop();
    }
  }

  // What is left of it, and of its ranks.
  void StopDaemon() {
    if (daemon_ > 0) {
      kill(-daemon_, SIGTERM);
      for (int i = 0; i < 20 && waitpid(daemon_, nullptr, WNOHANG) == 0; ++i) usleep(100'000);
    }
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
  EventLoop::Clock::time_point begin_;
  std::optional<EventLoop::Clock::time_point> told_at_;
  std::unique_ptr<Channel> channel_;
  bool is_welcome_ = false;
  bool is_over_ = false;
  int num_signals_ = 0;
  pid_t daemon_ = -1;
  std::string said_;
  std::unique_ptr<LineReader> out_;
  std::unique_ptr<LineReader> err_;
  int exit_code_ = 1;
};

}  // namespace

int Follow(const Job& job, const NodeHello& hello, const Secret& secret) {
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  return Follower(job, hello, secret).Run();
}

}  // namespace strata::launch
