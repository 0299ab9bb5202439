#include "tools/launch/rank_agent.h"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>

#include "aio/base/address.h"
#include "tiering/topology.h"
#include "tools/launch/binding.h"
#include "tools/launch/channel.h"
#include "tools/launch/commands.h"
#include "tools/launch/messages.h"
#include "tools/launch/process.h"
#include "tools/launch/split.h"

namespace strata::launch {
namespace {

constexpr int kFailed = 1;
// A rank whose launcher is gone gets this long: nobody waits for it any more.
constexpr auto kOrphanGrace = std::chrono::seconds(2);

std::string NowInUtc() {
  return fmt::format("{:%Y-%m-%d %H:%M:%S} UTC", fmt::gmtime(std::time(nullptr)));
}

// Where this node's user started its launcher, which mpirun does not know.
Status GoToOwnDirectory() {
  const char* directory = std::getenv(kDirectoryVariable);
  if (directory != nullptr && chdir(directory) != 0)
    return ErrnoStatus(errno, fmt::format("go to {}", directory));
  unsetenv(kDirectoryVariable);
  unsetenv(kLogDirVariable);
  return OkStatus();
}

// A runtime of MPI's that something above us belongs to is not this rank's.
void ForgetMpi() {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"}) unsetenv(name);
}

struct RankLog {
  std::string path;
  Descriptor file;
};
// Appends: an earlier run's log stays.
Result<RankLog> OpenLog(const std::string& directory, uint32_t rank) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) return ErrnoStatus(error.value(), fmt::format("--log-dir: make '{}'", directory));
  const std::filesystem::path path = std::filesystem::absolute(directory, error);
  RankLog log{.path = fmt::format("{}/rank-{}.log", path.lexically_normal().string(), rank),
              .file = {}};
  log.file = Descriptor(open(log.path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  if (!log.file.is_open()) return ErrnoStatus(errno, "--log-dir: open " + log.path);
  return log;
}

const char* FromEnvironment(const char* name) { return std::getenv(name); }

Result<std::string> Bind(const AgentArguments& arguments, const RankIdentity& identity,
                         const ReadRunNeeds& read_needs) {
  if (arguments.no_bind) return std::string("not bound");
  STRATA_ASSIGN_OR_RETURN(const tiering::Topology topology, tiering::Topology::Detect());
  const RunNeeds needs = read_needs(arguments.command, identity.world_size);
  STRATA_ASSIGN_OR_RETURN(
      const std::vector<Binding> bindings,
      BindSlots(topology, AllowedCpus(), WishesHere(identity.node, needs, FromEnvironment)));
  const Binding& binding = bindings.at(identity.place.slot);
  STRATA_RETURN_IF_ERROR(topology.BindThisProcess(binding.cpus, binding.numa_nodes));
  return Describe(binding);
}

// By SIGTERM or SIGKILL, or with the exit codes that stand for a signal.
bool IsEndOfTheStopped(const Ending& ending) {
  const int code = ending.ShellCode();
  return code == 128 + SIGTERM || code == 128 + SIGKILL || code == 128 + SIGINT;
}

// The launcher's directory: it could not do it itself.
void RemoveWhatTheLauncherLeft(const std::string& control) {
  constexpr std::string_view kUnix = "unix:";
  const std::string_view address = Split(control, ',')[0];
  if (!address.starts_with(kUnix)) return;
  const std::filesystem::path directory =
      std::filesystem::path(address.substr(kUnix.size())).parent_path();
  std::error_code ignored;
  if (directory.filename().string().starts_with(kPrivateDirectory))
    std::filesystem::remove_all(directory, ignored);
}

// One rank from start to end.
class Agent {
 public:
  Agent(EventLoop& loop, const AgentArguments& arguments, const RankIdentity& identity,
        const ReadRunNeeds& read_needs)
      : loop_(loop),
        arguments_(arguments),
        identity_(identity),
        read_needs_(read_needs),
        signals_(loop, {SIGTERM, SIGINT, SIGCHLD}, [this](int number) { OnSignal(number); }) {}

  int Run(Descriptor connection, const std::string& token) {
    channel_ = Channel::Join(
        loop_, std::move(connection), ClientKind::kAgent, token,
        {.on_open = [this] { StartRank(); },
         .on_message = [this](char type, std::string_view) { OnMessage(Message{type}); },
         .on_close = [this](const Status& why) { OnLauncherGone(why); }});
    loop_.Run();
    return exit_code_;
  }

 private:
  void StartRank() {
    // First, so that even our sudden death is known to be this rank's.
    channel_->Send(static_cast<char>(Message::kAgentHere), std::to_string(identity_.rank));
    Result<Child> child = TryStartRank();
    channel_->Send(static_cast<char>(Message::kRankStarted),
                   Encode(RankStarted{.rank = identity_.rank,
                                      .host = HostName(),
                                      .pid = child.ok() ? child->pid : 0,
                                      .binding = binding_,
                                      .log = log_.path}));
    if (!child.ok()) {
      ended_ = RankEnded{.ending = {.exit_code = 127}, .error = child.status().message()};
      return ReportEnd();
    }
    pid_ = child->pid;
    Note(fmt::format("rank {} of {} on {}, pid {}, {}: {}", identity_.rank, identity_.world_size,
                     HostName(), pid_, binding_, ToShell({{}, arguments_.command})));
    out_ = ReadLines(std::move(child->out), Message::kOutLines);
    err_ = ReadLines(std::move(child->err), Message::kErrLines);
  }

  Result<Child> TryStartRank() {
    STRATA_RETURN_IF_ERROR(GoToOwnDirectory());
    STRATA_ASSIGN_OR_RETURN(log_, OpenLog(arguments_.log_dir, identity_.rank));
    STRATA_ASSIGN_OR_RETURN(binding_, Bind(arguments_, identity_, read_needs_));
    return StartChild({.words = arguments_.command,
                       .environment = RankVariables(identity_, arguments_.master_addr,
                                                    arguments_.master_port, arguments_.comm_port),
                       .death_signal = SIGKILL});
  }

  std::unique_ptr<LineReader> ReadLines(Descriptor from, Message type) {
    return std::make_unique<LineReader>(
        loop_, std::move(from), [this, type](std::string_view lines) { OnLines(type, lines); },
        [this] { MaybeReportEnd(); });
  }

  void OnLines(Message type, std::string_view lines) {
    WriteLog(lines);
    if (channel_->is_open()) channel_->Send(static_cast<char>(type), lines);
  }

  void WriteLog(std::string_view text) {
    // A full disk must not end the run: the launcher shows the same lines.
    while (!text.empty()) {
      const ssize_t count = write(log_.file.get(), text.data(), text.size());
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) return;
      text.remove_prefix(static_cast<size_t>(count));
    }
  }

  void Note(const std::string& text) { WriteLog(fmt::format("# {} {}\n", NowInUtc(), text)); }

  void OnSignal(int number) {
    if (number == SIGCHLD) {
      Reap();
    } else if (reported_) {
      End();
    } else {
      // mpirun stops its children, or died.
      Stop(getppid() == 1 ? kOrphanGrace : std::chrono::seconds(arguments_.grace_seconds));
    }
  }

  void OnMessage(Message type) {
    if (type == Message::kStop) Stop(std::chrono::seconds(arguments_.grace_seconds));
    if (type == Message::kKill) SignalRank(SIGKILL);
    if (type == Message::kRelease) End();
  }

  void OnLauncherGone(const Status& why) {
    if (pid_ < 0) {
      fmt::print(stderr, "error: rank {}: {}\n", identity_.rank, why.message());
      exit_code_ = kFailed;
    }
    if (pid_ < 0 || reported_) return End();
    Note("the launcher is gone: " + why.message());
    is_orphan_ = true;
    Stop(kOrphanGrace);
  }

  void Stop(std::chrono::seconds grace) {
    SignalRank(SIGTERM);
    if (!is_stopping_) loop_.After(grace, [this] { SignalRank(SIGKILL); });
    is_stopping_ = true;
  }

  void SignalRank(int number) {
    if (pid_ > 0 && !ended_) kill(-pid_, number);
  }

  void Reap() {
    int status = 0;
    for (pid_t pid = waitpid(-1, &status, WNOHANG); pid > 0; pid = waitpid(-1, &status, WNOHANG)) {
      if (pid != pid_) continue;
      ended_ = RankEnded{.ending = EndingOf(status)};
      ended_->was_stopped = is_stopping_ && IsEndOfTheStopped(ended_->ending);
    }
    if (!ended_ || is_cleaned_) return;
    // Whatever it left running would keep its files, ports and memory.
    is_cleaned_ = true;
    kill(-pid_, SIGKILL);
    KillAllChildren();
    MaybeReportEnd();
    // A descriptor handed to somebody else's process keeps a pipe open.
    loop_.After(std::chrono::milliseconds(500), [this] {
      if (!reported_) {
        out_->Finish();
        err_->Finish();
      }
    });
  }

  void MaybeReportEnd() {
    const bool is_drained = out_ && err_ && out_->is_at_end() && err_->is_at_end();
    if (ended_ && is_drained) ReportEnd();
  }

  void ReportEnd() {
    if (reported_) return;
    reported_ = true;
    Note(ended_->error.empty() ? "ended: " + Describe(ended_->ending) : ended_->error);
    if (is_orphan_) return End();
    if (channel_->is_open())
      channel_->Send(static_cast<char>(Message::kRankEnded), Encode(*ended_));
  }

  void End() {
    // The launcher knows how the rank ended; for mpirun all is well with its agent.
    if (reported_ && !is_orphan_) exit_code_ = 0;
    KillAllChildren();
    if (is_orphan_) RemoveWhatTheLauncherLeft(arguments_.control);
    loop_.Stop();
  }

  EventLoop& loop_;
  const AgentArguments& arguments_;
  const RankIdentity identity_;
  const ReadRunNeeds& read_needs_;
  std::string binding_ = "not bound";
  RankLog log_;
  SignalWatch signals_;
  std::unique_ptr<Channel> channel_;
  pid_t pid_ = -1;
  std::unique_ptr<LineReader> out_;
  std::unique_ptr<LineReader> err_;
  std::optional<RankEnded> ended_;
  bool is_stopping_ = false;
  bool is_orphan_ = false;
  bool is_cleaned_ = false;
  bool reported_ = false;
  int exit_code_ = kFailed;
};

Result<Descriptor> ConnectToLauncher(const std::string& addresses) {
  std::string errors;
  for (std::string_view address : Split(addresses, ',')) {
    Result<Descriptor> connection = ConnectTo(std::string(address), std::chrono::seconds(5));
    if (connection.ok()) return connection;
    errors += (errors.empty() ? "" : "; ") + connection.status().message();
  }
  return Unavailable(fmt::format("cannot reach the launcher of this job: {}", errors));
}

Result<int> TryRunAgent(const AgentArguments& arguments, const ReadRunNeeds& read_needs) {
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  const char* token = std::getenv(kTokenVariable);
  if (token == nullptr) {
    return InvalidArgument(
        fmt::format("{} is not set: strata launch starts this, nobody else can", kTokenVariable));
  }
  const std::string secret = token;
  // The rank is not to know how to speak in the name of others.
  unsetenv(kTokenVariable);
  unsetenv(kControlVariable);
  if (arguments.comm_port) ForgetMpi();
  STRATA_ASSIGN_OR_RETURN(const Layout layout, ParseLayout(arguments.layout));
  STRATA_ASSIGN_OR_RETURN(const RankIdentity identity,
                          IdentityOf(layout, arguments.rank, FromEnvironment));
  const std::string who = fmt::format("rank {}", identity.rank);
  STRATA_ASSIGN_OR_RETURN(Descriptor connection, ConnectToLauncher(arguments.control).With(who));
  AgentArguments own = arguments;
  if (const char* log_dir = std::getenv(kLogDirVariable)) own.log_dir = log_dir;
  EventLoop loop;
  Agent agent(loop, own, identity, read_needs);
  return agent.Run(std::move(connection), secret);
}

}  // namespace

int RunAgent(const AgentArguments& arguments, const ReadRunNeeds& read_needs) {
  Result<int> exit_code = TryRunAgent(arguments, read_needs);
  if (exit_code.ok()) return *exit_code;
  fmt::print(stderr, "error: {}: {}\n", HostName(), exit_code.status().message());
  return kFailed;
}

Result<RankIdentity> IdentityOf(const Layout& layout, std::optional<uint32_t> given,
                                const Environment& environment) {
  const auto number = [&](const char* name) -> Result<std::optional<uint32_t>> {
    const char* text = environment(name);
    if (text == nullptr) return std::optional<uint32_t>();
    STRATA_ASSIGN_OR_RETURN(uint32_t value, ParseNumber(text).With(name));
    return std::optional<uint32_t>(value);
  };
  std::optional<uint32_t> rank = given;
  std::optional<uint32_t> local_rank;
  for (auto [name, local_name] : {std::pair("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK"),
                                  std::pair("SLURM_PROCID", "SLURM_LOCALID")}) {
    if (rank) break;
    STRATA_ASSIGN_OR_RETURN(rank, number(name));
    STRATA_ASSIGN_OR_RETURN(local_rank, number(local_name));
  }
  if (!rank) return InvalidArgument("neither mpirun nor srun started this: it has no rank");
  const uint32_t world_size = WorldSize(layout);
  if (*rank >= world_size) {
    return Internal(
        fmt::format("rank {} was started, and the layout has {} ranks", *rank, world_size));
  }
  const RankPlace place = PlaceOf(layout, *rank);
  const RankIdentity identity{
      .rank = *rank, .world_size = world_size, .place = place, .node = layout[place.node_rank]};
  if (local_rank && *local_rank != place.local_rank) {
    return Internal(fmt::format(
        "rank {} is number {} on {} for MPI and number {} on '{}' for the layout: ranks "
        "are not where they were asked for",
        *rank, *local_rank, HostName(), place.local_rank, identity.node.host));
  }
  return identity;
}

std::vector<std::pair<std::string, std::string>> RankVariables(const RankIdentity& identity,
                                                               const std::string& master_addr,
                                                               uint16_t master_port,
                                                               std::optional<uint16_t> comm_port) {
  const auto text = [](uint32_t number) { return std::to_string(number); };
  std::vector<std::pair<std::string, std::string>> variables = {
      {"RANK", text(identity.rank)},
      {"WORLD_SIZE", text(identity.world_size)},
      {"LOCAL_RANK", text(identity.place.local_rank)},
      {"LOCAL_WORLD_SIZE", text(identity.place.local_world_size)},
      {"NODE_RANK", text(identity.place.node_rank)},
      {"MASTER_ADDR", master_addr},
      {"MASTER_PORT", text(master_port)}};
  if (comm_port) variables.emplace_back("STRATA_MASTER_PORT", text(*comm_port));
  if (identity.node.slots.size() < identity.node.num_slots)
    variables.emplace_back("CUDA_VISIBLE_DEVICES",
                           fmt::format("{}", fmt::join(identity.node.slots, ",")));
  return variables;
}

}  // namespace strata::launch
