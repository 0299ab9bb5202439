#include "engine/comm/tcp/rendezvous.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <netinet/in.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>
#include <utility>

#include "aio/base/address.h"
#include "aio/base/log.h"
#include "aio/base/units.h"
#include "aio/file.h"
#include "engine/comm/tcp/blocking_io.h"

namespace strata::engine {
namespace {

using Clock = std::chrono::steady_clock;
using nlohmann::json;
using std::chrono::milliseconds;

constexpr milliseconds kBetweenTries(100);
constexpr milliseconds kToConnect(2'000);
constexpr std::chrono::seconds kBetweenLogs(10);
// For who has connected to say who it is; a stranger may say nothing.
constexpr milliseconds kToIntroduce(5'000);

// What a rank says of itself to rank 0.
struct Introduction {
  uint32_t rank = 0;
  uint32_t world_size = 0;
  uint16_t port = 0;  // where it listens for ranks above it
  std::string build;
  std::string machine;
  std::string host;
};

std::string TextOf(const Introduction& one) {
  return json{{"rank", one.rank},   {"world_size", one.world_size}, {"port", one.port},
              {"build", one.build}, {"machine", one.machine},       {"host", one.host}}
      .dump(-1, ' ', false, json::error_handler_t::replace);
}

Result<Introduction> IntroductionOf(const std::string& text) {
  const json parsed = json::parse(text, nullptr, false);
  Introduction one;
  const auto read = [&](const char* name, auto* to) {
    const auto found = parsed.find(name);
    using Value = std::remove_reference_t<decltype(*to)>;
    if constexpr (std::is_same_v<Value, std::string>) {
      if (found == parsed.end() || !found->is_string()) return false;
    } else {
      if (found == parsed.end() || !found->is_number_unsigned()) return false;
    }
    *to = found->template get<Value>();
    return true;
  };
  if (!parsed.is_object() || !read("rank", &one.rank) || !read("world_size", &one.world_size) ||
      !read("port", &one.port) || !read("build", &one.build) || !read("machine", &one.machine) ||
      !read("host", &one.host)) {
    return Internal("a rank says what this one does not understand: is it of the same build?");
  }
  return one;
}

// A rank that has come to rank 0, and from where: a numeric address.
struct Guest {
  Introduction said;
  std::string address;
};
using Guests = std::vector<std::optional<Guest>>;

// What rank 0 says when all have come: an error, or where each is.
struct Directory {
  std::string error;
  std::string secret;  // by which the ranks of this job know each other
  std::vector<std::string> addresses;
  std::vector<std::string> hosts;
  std::vector<uint32_t> machines;
};

std::string TextOf(const Directory& directory) {
  return json{{"error", directory.error},
              {"secret", directory.secret},
              {"addresses", directory.addresses},
              {"hosts", directory.hosts},
              {"machines", directory.machines}}
      .dump(-1, ' ', false, json::error_handler_t::replace);
}

Result<Directory> DirectoryOf(const std::string& text, uint32_t world_size) {
  const json parsed = json::parse(text, nullptr, false);
  const auto strings = [&](const char* name, std::vector<std::string>* to) {
    const auto found = parsed.find(name);
    if (found == parsed.end() || !found->is_array() || found->size() != world_size) return false;
    for (const json& one : *found) {
      if (!one.is_string()) return false;
      to->push_back(one.get<std::string>());
    }
    return true;
  };
  Directory directory;
  const Status garbled = Internal("rank 0 says what this rank does not understand");
  if (!parsed.is_object() || !parsed.contains("error") || !parsed["error"].is_string() ||
      !parsed.contains("secret") || !parsed["secret"].is_string()) {
    return garbled;
  }
  directory.error = parsed["error"].get<std::string>();
  directory.secret = parsed["secret"].get<std::string>();
  if (!directory.error.empty()) return directory;
  const auto machines = parsed.find("machines");
  if (!strings("addresses", &directory.addresses) || !strings("hosts", &directory.hosts) ||
      machines == parsed.end() || !machines->is_array() || machines->size() != world_size) {
    return garbled;
  }
  for (const json& one : *machines) {
    if (!one.is_number_unsigned()) return garbled;
    directory.machines.push_back(one.get<uint32_t>());
  }
  return directory;
}

Result<std::string> MakeSecret() {
  std::array<unsigned char, 16> bytes = {};
  if (getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size()))
    return ErrnoStatus(errno, "getrandom");
  return fmt::format("{:02x}", fmt::join(bytes, ""));
}

Result<uint16_t> PortOf(int listener) {
  sockaddr_storage name = {};
  socklen_t size = sizeof(name);
  if (getsockname(listener, reinterpret_cast<sockaddr*>(&name), &size) != 0)
    return ErrnoStatus(errno, "getsockname");
  return ntohs(name.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6*>(&name)->sin6_port
                                          : reinterpret_cast<sockaddr_in*>(&name)->sin_port);
}

bool IsLoopback(int listener) {
  sockaddr_storage name = {};
  socklen_t size = sizeof(name);
  if (getsockname(listener, reinterpret_cast<sockaddr*>(&name), &size) != 0) return false;
  if (name.ss_family == AF_INET6)
    return IN6_IS_ADDR_LOOPBACK(&reinterpret_cast<sockaddr_in6*>(&name)->sin6_addr);
  return ntohl(reinterpret_cast<sockaddr_in*>(&name)->sin_addr.s_addr) >> 24 == 127;
}

// As PeerOf() writes it.
bool IsLoopback(const std::string& address) {
  return address == "::1" || address.starts_with("127.") || address.starts_with("::ffff:127.");
}

// Nothing when nobody has connected by then.
std::optional<Descriptor> Accept(int listener, Deadline deadline) {
  if (!AwaitReadable(listener, deadline)) return std::nullopt;
  Descriptor connection(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!connection.is_open()) return std::nullopt;  // it has gone again
  NoticeDeadPeers(connection.get());
  return connection;
}

// Says every now and then whom it waits for.
class Patience {
 public:
  explicit Patience(std::string where) : where_(std::move(where)) {}
  void Say(const std::vector<uint32_t>& missing, size_t world_size) {
    const Clock::time_point now = Clock::now();
    if (now < next_) return;
    next_ = now + kBetweenLogs;
    Log(Severity::kInfo, "comm", "{}: waiting for {} of {} ranks: {}", where_, missing.size(),
        world_size, fmt::join(missing, ", "));
  }

 private:
  std::string where_;
  Clock::time_point next_ = Clock::now() + kBetweenLogs;
};

class Meeting {
 public:
  explicit Meeting(const RendezvousOptions& options)
      : options_(options),
        where_(TcpAddress(options.host, options.port)),
        deadline_(Clock::now() + options.deadline) {
    result_.connections.resize(options.world_size);
  }

  Result<Introductions> Run() {
    STRATA_RETURN_IF_ERROR(options_.rank == 0 ? Lead() : Follow());
    return std::move(result_);
  }

 private:
  Introduction Own() const {
    return {.rank = options_.rank,
            .world_size = options_.world_size,
            .port = own_port_,
            .build = options_.build,
            .machine = options_.machine,
            .host = HostName()};
  }
  Result<Descriptor> ListenAsLeader() const;
  Status Lead();
  Status Collect(int listener, Guests* all);
  Result<Introduction> Listen(int connection) const;
  Status CheckIntroduction(const Introduction& one, const Guests& all) const;
  Directory MakeDirectory(const Guests& all) const;
  Status Follow();
  Result<Descriptor> ConnectToLeader();
  Status ConnectToRanksBelow(const Directory& directory);
  Status AcceptRanksAbove(int listener, const Directory& directory);
  void Take(const Directory& directory) {
    result_.hosts = directory.hosts;
    result_.first_rank_of_machine = directory.machines;
  }
  std::vector<uint32_t> Missing(uint32_t from) const {
    std::vector<uint32_t> missing;
    for (uint32_t rank = from; rank < options_.world_size; ++rank)
      if (!result_.connections[rank].is_open()) missing.push_back(rank);
    return missing;
  }
  Status Late(const std::string& what) const {
    return Status(Code::kDeadlineExceeded,
                  fmt::format("{}: waited {:.0f} s in vain {}", where_,
                              std::chrono::duration<double>(options_.deadline).count(), what));
  }

  const RendezvousOptions& options_;
  const std::string where_;
  const Deadline deadline_;
  uint16_t own_port_ = 0;
  Introductions result_;
};

// A name that stands for loopback here (as Debian's /etc/hosts has it of its own machine) may stand
// for another address elsewhere.
Result<Descriptor> Meeting::ListenAsLeader() const {
  constexpr ListenAdvice kAdvice = {
      .port_in_use = "set STRATA_MASTER_PORT to another one for all ranks",
      .host_name = "MASTER_ADDR",
      .not_here = "rank 0 must be started where MASTER_ADDR points to"};
  STRATA_ASSIGN_OR_RETURN(Descriptor listener, ListenOn(where_, kAdvice));
  const bool is_meant =
      options_.host == "localhost" || options_.host.starts_with("127.") || options_.host == "::1";
  if (is_meant || !IsLoopback(listener.get())) return listener;
  listener.Close();
  return ListenOn(fmt::format(":{}", options_.port), kAdvice);
}

Status Meeting::Lead() {
  STRATA_ASSIGN_OR_RETURN(const Descriptor listener, ListenAsLeader());
  Guests all(options_.world_size);
  all[0] = Guest{Own(), ""};
  const Status collected = Collect(listener.get(), &all);
  Directory directory;
  if (collected.ok()) {
    directory = MakeDirectory(all);
    STRATA_ASSIGN_OR_RETURN(directory.secret, MakeSecret());
  } else {
    directory.error = collected.message();
  }
  for (uint32_t rank = 1; rank < options_.world_size; ++rank) {
    const Descriptor& connection = result_.connections[rank];
    if (!connection.is_open()) continue;
    const Status told = SendText(connection.get(), TextOf(directory), Clock::now() + kToIntroduce);
    if (!told.ok() && collected.ok()) return told.With(fmt::format("{}: rank {}", where_, rank));
  }
  Take(directory);
  return collected;
}

// After the first that does not fit, it is told to all who come soon.
Status Meeting::Collect(int listener, Guests* all) {
  Patience patience(where_);
  Status failure;
  Deadline deadline = deadline_;
  for (uint32_t num_heard = 1; num_heard < options_.world_size;) {
    const std::vector<uint32_t> missing = Missing(1);
    if (failure.ok()) patience.Say(missing, options_.world_size);
    if (Clock::now() >= deadline) {
      if (!failure.ok()) return failure;
      return Late(
          fmt::format("for {} of {} ranks: {}: start them with the same MASTER_ADDR and "
                      "STRATA_MASTER_PORT (default: MASTER_PORT + 1)",
                      missing.size(), options_.world_size, fmt::join(missing, ", ")));
    }
    std::optional<Descriptor> connection =
        Accept(listener, std::min(deadline, Clock::now() + kBetweenLogs));
    if (!connection) continue;
    const Result<Introduction> one = Listen(connection->get());
    if (!one.ok()) {
      Log(Severity::kWarning, "comm", "{}: {} is none of the ranks: {}", where_,
          PeerOf(connection->get()), one.status().message());
      continue;
    }
    ++num_heard;
    const Status fits = failure.ok() ? CheckIntroduction(*one, *all) : failure;
    if (fits.ok()) {
      (*all)[one->rank] = Guest{*one, PeerOf(connection->get())};
      result_.connections[one->rank] = *std::move(connection);
      continue;
    }
    if (failure.ok()) deadline = std::min(deadline_, Clock::now() + kToIntroduce);
    failure = fits;
    Directory refusal;
    refusal.error = failure.message();
    const Status told = SendText(connection->get(), TextOf(refusal), Clock::now() + kToIntroduce);
    if (!told.ok()) Log(Severity::kWarning, "comm", "{}: {}", where_, told.message());
  }
  return failure;
}

Result<Introduction> Meeting::Listen(int connection) const {
  STRATA_ASSIGN_OR_RETURN(
      const std::string text,
      ReceiveText(connection, std::min(deadline_, Clock::now() + kToIntroduce)));
  return IntroductionOf(text);
}

Status Meeting::CheckIntroduction(const Introduction& one, const Guests& all) const {
  if (one.world_size != options_.world_size || one.rank >= options_.world_size) {
    return FailedPrecondition(fmt::format(
        "{}: a process on {} says that it is rank {} of {}, and this job has {}: another job that "
        "uses this port needs another STRATA_MASTER_PORT",
        where_, one.host, one.rank, one.world_size, options_.world_size));
  }
  if (one.build != options_.build) {
    return FailedPrecondition(
        fmt::format("{}: rank {} on {} is of another build ({}) than rank 0 ({}): copy the program "
                    "from one node to the other",
                    where_, one.rank, one.host, one.build, options_.build));
  }
  if (!all[one.rank]) return OkStatus();
  return FailedPrecondition(fmt::format(
      "{}: two processes say that they are rank {}, on {} and on {}: another job that uses this "
      "port needs another STRATA_MASTER_PORT",
      where_, one.rank, all[one.rank]->said.host, one.host));
}

// Ranks of rank 0's machine may have come from an address that only that machine knows. What is
// one machine to them may have several networks all the same, as containers of one host do.
Directory Meeting::MakeDirectory(const Guests& all) const {
  Directory directory;
  for (uint32_t rank = 0; rank < all.size(); ++rank) {
    const Introduction& said = all[rank]->said;
    uint32_t first = 0;
    while (all[first]->said.machine != said.machine) ++first;
    directory.machines.push_back(first);
    directory.hosts.push_back(said.host);
    const bool is_local = first == 0 && (rank == 0 || IsLoopback(all[rank]->address));
    directory.addresses.push_back(
        TcpAddress(is_local ? options_.host : all[rank]->address, said.port));
  }
  return directory;
}

Status Meeting::Follow() {
  STRATA_ASSIGN_OR_RETURN(const Descriptor listener, ListenOn(":0"));
  STRATA_ASSIGN_OR_RETURN(own_port_, PortOf(listener.get()));
  STRATA_ASSIGN_OR_RETURN(Descriptor leader, ConnectToLeader());
  STRATA_RETURN_IF_ERROR(SendText(leader.get(), TextOf(Own()), deadline_).With(where_));
  const Result<std::string> text = ReceiveText(leader.get(), deadline_ + kToIntroduce);
  if (!text.ok()) return text.status().With(fmt::format("{}: rank 0's list of ranks", where_));
  STRATA_ASSIGN_OR_RETURN(const Directory directory, DirectoryOf(*text, options_.world_size));
  if (!directory.error.empty()) return FailedPrecondition("rank 0: " + directory.error);
  result_.connections[0] = std::move(leader);
  Take(directory);
  STRATA_RETURN_IF_ERROR(ConnectToRanksBelow(directory));
  return AcceptRanksAbove(listener.get(), directory);
}

// Rank 0 may be started later.
Result<Descriptor> Meeting::ConnectToLeader() {
  Clock::time_point next_log = Clock::now() + kBetweenLogs;
  while (true) {
    Result<Descriptor> connection = ConnectTo(where_, kToConnect);
    if (connection.ok()) {
      NoticeDeadPeers(connection->get());
      return connection;
    }
    if (connection.status().code() != Code::kUnavailable) return connection.status();
    if (Clock::now() >= deadline_) {
      return Late(
          fmt::format("for rank 0, which MASTER_ADDR and STRATA_MASTER_PORT (default: "
                      "MASTER_PORT + 1) should lead to: {}",
                      connection.status().message()));
    }
    if (Clock::now() >= next_log) {
      next_log = Clock::now() + kBetweenLogs;
      Log(Severity::kInfo, "comm", "rank {} waits for rank 0: {}", options_.rank,
          connection.status().message());
    }
    std::this_thread::sleep_for(kBetweenTries);
  }
}

Status Meeting::ConnectToRanksBelow(const Directory& directory) {
  for (uint32_t rank = 1; rank < options_.rank; ++rank) {
    const std::string& address = directory.addresses[rank];
    const auto connect = [&]() -> Result<Descriptor> {
      STRATA_ASSIGN_OR_RETURN(Descriptor connection, ConnectTo(address, kToConnect));
      NoticeDeadPeers(connection.get());
      STRATA_RETURN_IF_ERROR(SendText(connection.get(),
                                      fmt::format("{} {}", directory.secret, options_.rank),
                                      Clock::now() + kToIntroduce));
      return connection;
    };
    Result<Descriptor> connection = connect();
    if (!connection.ok()) {
      return connection.status().With(
          fmt::format("rank {} connects to rank {} on {} (may a firewall be between them?)",
                      options_.rank, rank, directory.hosts[rank]));
    }
    result_.connections[rank] = *std::move(connection);
  }
  return OkStatus();
}

Status Meeting::AcceptRanksAbove(int listener, const Directory& directory) {
  while (true) {
    const std::vector<uint32_t> missing = Missing(options_.rank + 1);
    if (missing.empty()) return OkStatus();
    // All have come to rank 0, so this takes no time but what they have been given.
    const Deadline deadline = deadline_ + kToConnect + kToIntroduce;
    if (Clock::now() >= deadline) {
      return Late(fmt::format("for ranks {} to connect to rank {}", fmt::join(missing, ", "),
                              options_.rank));
    }
    std::optional<Descriptor> connection = Accept(listener, deadline);
    if (!connection) continue;
    const Result<std::string> text =
        ReceiveText(connection->get(), std::min(deadline, Clock::now() + kToIntroduce));
    if (!text.ok() || !text->starts_with(directory.secret + " ")) continue;  // a stranger
    const int rank = std::atoi(text->c_str() + directory.secret.size());
    if (rank <= static_cast<int>(options_.rank) || rank >= static_cast<int>(options_.world_size))
      return Internal(fmt::format("rank {} connects to rank {}", rank, options_.rank));
    result_.connections[static_cast<size_t>(rank)] = *std::move(connection);
  }
}

}  // namespace

Result<Introductions> MeetOverTcp(const RendezvousOptions& options) {
  return Meeting(options).Run();
}

// Processes of one kernel that have one process namespace.
std::string NameOfThisMachine() {
  const Result<std::string> boot = aio::ReadSmallFile("/proc/sys/kernel/random/boot_id", 4_KiB);
  std::error_code error;
  const std::filesystem::path processes = std::filesystem::read_symlink("/proc/self/ns/pid", error);
  return fmt::format("{} {}", boot.ok() ? *boot : HostName(), processes.string());
}

}  // namespace strata::engine
