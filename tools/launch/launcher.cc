#include "tools/launch/launcher.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>

#include "aio/base/address.h"
#include "aio/file.h"
#include "tools/launch/binding.h"
#include "tools/launch/commands.h"
#include "tools/launch/follower.h"
#include "tools/launch/job_output.h"
#include "tools/launch/node_group.h"
#include "tools/launch/rank_supervisor.h"
#include "tools/launch/reserved_port.h"
#include "tools/launch/secret.h"
#include "tools/launch/server.h"
#include "tools/launch/starter.h"

namespace strata::launch {
namespace {

using namespace std::chrono_literals;

constexpr int kFailed = 1;
// What starts ranks ends by itself when they have ended, and removes their shared memory; it has
// this long before it is helped, and in all no longer than a stop may take.
constexpr auto kStarterTime = 4s;
constexpr auto kTimeAfterGrace = 1500ms;

const char* FromEnvironment(const char* name) { return std::getenv(name); }

// A directory that only this user may enter, for as long as the job runs.
class PrivateDirectory {
 public:
  static Result<PrivateDirectory> Make() {
    // A socket's path has at most 107 characters.
    constexpr size_t kMaxCharacters = 64;
    std::error_code error;
    std::filesystem::path temporary = std::filesystem::temp_directory_path(error);
    if (error || temporary.native().size() > kMaxCharacters) temporary = "/tmp";
    std::string path = temporary / (std::string(kPrivateDirectory) + "XXXXXX");
    if (mkdtemp(path.data()) == nullptr) return ErrnoStatus(errno, "make " + path);
    return PrivateDirectory(std::move(path));
  }
  PrivateDirectory(PrivateDirectory&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  ~PrivateDirectory() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }

  const std::string& path() const { return path_; }

 private:
  explicit PrivateDirectory(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

std::string ControlIn(const std::string& directory) { return "unix:" + directory + "/control"; }

std::string ControlOf(const Job& job, const std::string& directory) {
  std::string control = ControlIn(directory);
  if (!job.control_address.empty())
    control += "," + TcpAddress(job.control_address, job.master_port);
  return control;
}

// Where other machines' agents and launchers come in; nothing if there are none.
std::optional<std::string> ListenAddress(const Job& job) {
  if (job.control_address.empty()) return {};
  // A name that stands for loopback here is another machine's way to itself.
  const bool is_local = job.control_address == "localhost" || job.control_address == "127.0.0.1";
  const bool is_known = job.start == Start::kPerNode && !is_local;
  return TcpAddress(is_known ? job.control_address : "", job.master_port);
}

class Launcher {
 public:
  Launcher(Job job, PrivateDirectory directory, std::string token)
      : job_(std::move(job)),
        directory_(std::move(directory)),
        token_(std::move(token)),
        output_(loop_, STDOUT_FILENO, STDERR_FILENO),
        signals_(loop_, {SIGINT, SIGTERM, SIGHUP, SIGCHLD},
                 [this](int number) { OnSignal(number); }),
        server_(loop_, [this](ClientKind kind) { return SecretOf(kind); },
                {.on_message = [this](Channel* peer, Message type,
                                      std::string_view text) { OnMessage(peer, type, text); },
                 .on_close = [this](Channel* peer, const Status& why) { OnClosed(peer, why); },
                 .on_stranger = [this](const Status& why) { OnStranger(why); }}),
        starter_(loop_, job_.log_dir + "/launcher.log") {}

  // Not for a per-node start.
  int Run() {
    output_.Say(fmt::format("{}; logs in {}", Describe(job_), job_.log_dir));
    if (const Status status = Listen(); !status.ok()) return Refuse(status);
    StartRanks(NumCores());
    return Loop();
  }

  // As node 0. Agents show TokenOfJob() of `nonce`, or nobody is told it.
  int RunWithNodes(const NodeHello& hello, const Secret& secret, const std::string& nonce) {
    node_secret_ = secret;
    output_.Say(fmt::format("{}; logs in {} on each", Describe(job_), job_.log_dir));
    if (const Status status = Listen(); !status.ok()) return Refuse(status);
    nodes_ = std::make_unique<NodeGroup>(
        loop_, job_, hello, output_,
        NodeGroup::Callbacks{.on_complete =
                                 [this, nonce] {
                                   job_.layout = nodes_->LayoutOf();
                                   StartRanks(nodes_->num_cores());
                                   StartRanksOfOthers(nonce);
                                 },
                             .on_failure = [this](const std::string& text) { OnNodeFailure(text); },
                             .on_stop_wanted = [this](int number) { OnStopWanted(number); }});
    return Loop();
  }

 private:
  int Refuse(const Status& status) {
    output_.Error("error: " + status.message());
    return kFailed;
  }

  Status Listen() {
    STRATA_RETURN_IF_ERROR(server_.Listen(ControlIn(directory_.path())));
    if (const std::optional<std::string> address = ListenAddress(job_))
      STRATA_RETURN_IF_ERROR(server_.Listen(*address));
    return OkStatus();
  }

  static uint32_t NumCores() { return static_cast<uint32_t>(AllowedCpus().size()); }

  void StartRanks(uint32_t cores) {
    ranks_ = std::make_unique<RankSupervisor>(loop_, job_, output_, [this] { OnAllEnded(); });
    std::error_code ignored;  // an agent that cannot write its log says so
    std::filesystem::create_directories(job_.log_dir, ignored);
    if (const Status started = TryStartRanks(cores); !started.ok()) {
      is_starter_over_ = true;
      ranks_->StopByFailure(kFailed, started.message());
    }
  }

  Status TryStartRanks(uint32_t cores) {
    const bool is_ours = job_.comm == Comm::kTcp && WorldSize(job_.layout) > 1;
    if (is_ours && job_.comm_port == 0) {
      STRATA_ASSIGN_OR_RETURN(comm_port_, ReservedPort::Find());
      job_.comm_port = comm_port_->port();
    }
    std::vector<Command> commands =
        StarterCommands(job_, ControlOf(job_, directory_.path()), cores);
    for (Command& command : commands) {
      command.environment.emplace_back(kTokenVariable, token_);
      command.environment.emplace_back(kControlVariable, ControlIn(directory_.path()));
      // Removed with the directory, also when mpirun has no time to.
      if (job_.comm == Comm::kMpi && (job_.control_address.empty() || nodes_))
        command.environment.emplace_back("OMPI_MCA_orte_tmpdir_base", directory_.path());
    }
    // Should we be killed, mpirun still removes the shared memory of its ranks.
    return starter_.Start(commands, SIGTERM);
  }

  void StartRanksOfOthers(const std::string& nonce) {
    if (job_.comm != Comm::kTcp || is_starter_over_) return;
    nodes_->StartRanks(
        {.layout = FormatLayout(job_.layout), .nonce = nonce, .comm_port = job_.comm_port});
  }

  int Loop() {
    loop_.Run();
    return exit_code_;
  }

  std::optional<std::string> SecretOf(ClientKind kind) const {
    if (kind == ClientKind::kAgent) return token_;
    if (node_secret_) return node_secret_->text;
    return std::nullopt;
  }

  void OnMessage(Channel* peer, Message type, std::string_view payload) {
    if (peer->kind() == ClientKind::kNode) {
      if (nodes_) nodes_->OnMessage(peer, type, payload);
    } else if (type == Message::kRunDaemon) {
      Result<RunDaemon> wanted = Decode<RunDaemon>(payload);
      if (nodes_ && job_.comm == Comm::kMpi && wanted.ok()) nodes_->RunDaemonFor(peer, *wanted);
    } else if (ranks_) {
      ranks_->OnMessage(peer, type, payload);
    }
  }

  void OnClosed(Channel* peer, const Status& why) {
    if (nodes_) nodes_->OnClosed(peer, why);
    if (ranks_) ranks_->OnClosed(peer, why);
  }

  void OnStranger(const Status& why) {
    constexpr int kToldStrangers = 5;
    if (++num_strangers_ <= kToldStrangers)
      output_.Say(fmt::format("refused a connection: {}", why.message()));
  }

  void OnNodeFailure(const std::string& text) {
    if (is_ending_) return;
    if (ranks_) return ranks_->StopByFailure(kFailed, text);
    Finish(kFailed, "error: " + text);
  }

  void OnStopWanted(int number) {
    if (ranks_) return ranks_->StopBySignal(number);
    Finish(128 + number, "");
  }

  void OnSignal(int number) {
    if (number == SIGCHLD) return OnChild();
    if (!ranks_) return Finish(128 + number, "");
    if (ranks_->is_stopping()) {
      output_.Say("killing what still runs");
      return ranks_->KillAll();
    }
    ranks_->StopBySignal(number);
  }

  void OnChild() {
    const bool is_over = starter_.Reap();
    if (!is_over && !starter_.has_failed()) return;
    // What its agents sent before they ended has come by then.
    loop_.After(100ms, [this, is_over] {
      is_starter_over_ = is_starter_over_ || is_over;
      ranks_->OnStarterEnded(starter_.ending(), starter_.said());
      MaybeFinish();
    });
  }

  void OnAllEnded() {
    EventLoop::Clock::duration time = kStarterTime;
    if (ranks_->is_stopping()) {
      const auto latest = ranks_->stopping_since() + job_.grace + kTimeAfterGrace;
      time = std::min(time, latest - EventLoop::Clock::now());
    }
    loop_.After(time, [this] { starter_.End(); });
    MaybeFinish();
  }

  void MaybeFinish() {
    if (is_starter_over_ && ranks_->all_ended()) Finish(ranks_->exit_code(), ranks_->LastWords());
  }

  // Nothing runs any more, or never did: say the last words everywhere, and go.
  void Finish(int exit_code, const std::string& last_words) {
    if (is_ending_) return;
    is_ending_ = true;
    exit_code_ = exit_code;
    if (!last_words.empty()) output_.Error(last_words);
    if (nodes_) nodes_->TellEnd({.exit_code = exit_code, .text = last_words});
    loop_.After(2s, [this] { loop_.Stop(); });  // of a reader that does not read
    StopWhenSaid();
  }

  void StopWhenSaid() {
    if (output_.is_flushed() && server_.is_flushed()) return loop_.Stop();
    loop_.After(10ms, [this] { StopWhenSaid(); });
  }

  Job job_;
  const PrivateDirectory directory_;
  const std::string token_;
  EventLoop loop_;
  JobOutput output_;
  SignalWatch signals_;
  std::unique_ptr<NodeGroup> nodes_;
  std::unique_ptr<RankSupervisor> ranks_;
  Server server_;
  Starter starter_;
  std::optional<Secret> node_secret_;
  std::optional<ReservedPort> comm_port_;
  int num_strangers_ = 0;
  bool is_starter_over_ = false;
  bool is_ending_ = false;
  int exit_code_ = kFailed;
};

std::string BootId() {
  Result<std::string> id = aio::ReadSmallFile("/proc/sys/kernel/random/boot_id", 256);
  return id.ok() ? *id : "";
}

// Of the files that the words name, in order: a configuration, above all.
Result<std::string> HashOfFiles(const std::vector<std::string>& words) {
  constexpr uintmax_t kMaxBytes = 64 << 20;
  Sha256 hash;
  for (size_t i = 1; i < words.size(); ++i) {
    std::error_code error;
    if (!std::filesystem::is_regular_file(words[i], error) || error) continue;
    if (std::filesystem::file_size(words[i], error) > kMaxBytes || error) continue;
    STRATA_ASSIGN_OR_RETURN(const Digest digest, Sha256OfFile(words[i]));
    hash.Add(AsBytes(digest));
  }
  return ToHex(hash.Finish());
}

Result<NodeHello> HelloOf(const Job& job, const std::string& version) {
  NodeHello hello;
  hello.job_id = job.job_id;
  hello.node_rank = job.node_rank;
  hello.nnodes = static_cast<uint32_t>(job.layout.size());
  hello.num_slots = static_cast<uint32_t>(job.layout[0].slots.size());
  hello.host = HostName();
  hello.boot_id = BootId();
  hello.version = version;
  STRATA_ASSIGN_OR_RETURN(const Digest strata, Sha256OfFile(job.strata));
  hello.program_hash = ToHex(strata);
  if (job.program.find('/') != std::string::npos) {
    STRATA_ASSIGN_OR_RETURN(const Digest program, Sha256OfFile(job.program).With("--program"));
    hello.program_hash += ToHex(program);
  }
  // Where strata stands may differ between nodes.
  std::vector<std::string> words = job.command;
  if (job.program.empty()) words[0] = "strata";
  hello.command = ToShell({{}, words});
  STRATA_ASSIGN_OR_RETURN(hello.config_hash, HashOfFiles(job.command));
  hello.num_cores = static_cast<uint32_t>(AllowedCpus().size());
  hello.comm = job.comm == Comm::kMpi ? "mpi" : "tcp";
  return hello;
}

Result<int> TryRunJob(const Job& job, const Arguments& arguments, const std::string& version) {
  // Somebody's orphaned children would be nobody's.
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  std::optional<NodeHello> hello;
  std::optional<Secret> secret;
  if (job.start == Start::kPerNode) {
    STRATA_ASSIGN_OR_RETURN(hello, HelloOf(job, version));
    STRATA_ASSIGN_OR_RETURN(secret, FindSecret(arguments.secret_file, FromEnvironment));
    if (job.node_rank != 0) return Follow(job, *hello, *secret);
  }
  STRATA_ASSIGN_OR_RETURN(PrivateDirectory directory, PrivateDirectory::Make());
  STRATA_ASSIGN_OR_RETURN(const Digest random, RandomDigest());
  const bool is_derived = secret && job.comm == Comm::kTcp;
  const std::string token = is_derived ? TokenOfJob(*secret, ToHex(random)) : ToHex(random);
  int exit_code = kFailed;
  {
    Launcher launcher(job, std::move(directory), token);
    exit_code = hello ? launcher.RunWithNodes(*hello, *secret, is_derived ? ToHex(random) : "")
                      : launcher.Run();
    // Nothing of ours stays, whatever went wrong.
    KillAllChildren();
  }
  return exit_code;
}

}  // namespace

int RunJob(const Job& job, const Arguments& arguments, const std::string& version) {
  signal(SIGPIPE, SIG_IGN);
  Result<int> exit_code = TryRunJob(job, arguments, version);
  if (exit_code.ok()) return *exit_code;
  fmt::print(stderr, "error: {}\n", exit_code.status().message());
  return kFailed;
}

}  // namespace strata::launch
