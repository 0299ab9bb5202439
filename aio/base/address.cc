#include "aio/base/address.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>

namespace strata {
namespace {

constexpr std::string_view kUnix = "unix:";

struct HostAndPort {
  std::string host;
  std::string port;
};

// "[fd00::1]:29500" for IPv6.
Result<HostAndPort> Split(const std::string& address) {
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos)
    return InvalidArgument(fmt::format("'{}' is no address: write HOST:PORT", address));
  HostAndPort parts{address.substr(0, colon), address.substr(colon + 1)};
  if (parts.host.size() > 2 && parts.host.front() == '[' && parts.host.back() == ']')
    parts.host = parts.host.substr(1, parts.host.size() - 2);
  return parts;
}

using AddressList = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

Result<AddressList> Resolve(const HostAndPort& address, int flags) {
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* list = nullptr;
  const char* host = address.host.empty() ? nullptr : address.host.c_str();
  const int error = getaddrinfo(host, address.port.c_str(), &hints, &list);
  if (error == 0) return AddressList(list, &freeaddrinfo);
  const std::string message = fmt::format(
      "host '{}' is not known here: {}; give a name or an IP address that this machine "
      "resolves (getent hosts {})",
      address.host, gai_strerror(error), address.host);
  return error == EAI_AGAIN ? Unavailable(message) : NotFound(message);
}

Result<sockaddr_un> UnixAddress(const std::string& address) {
  const std::string path = address.substr(kUnix.size());
  sockaddr_un name = {};
  name.sun_family = AF_UNIX;
  if (path.size() >= sizeof name.sun_path)
    return InvalidArgument(fmt::format("path of a socket is too long: {}", path));
  std::memcpy(name.sun_path, path.data(), path.size());
  return name;
}

constexpr int kSocketFlags = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;

Result<Descriptor> ListenOnUnix(const std::string& address) {
  STRATA_ASSIGN_OR_RETURN(sockaddr_un name, UnixAddress(address));
  Descriptor listener(socket(AF_UNIX, kSocketFlags, 0));
  if (!listener.is_open()) return ErrnoStatus(errno, "socket");
  if (bind(listener.get(), reinterpret_cast<sockaddr*>(&name), sizeof name) != 0 ||
      listen(listener.get(), SOMAXCONN) != 0) {
    return ErrnoStatus(errno, "listen on " + address);
  }
  return listener;
}

Status ListenError(int error_number, const std::string& address, const HostAndPort& parts,
                   const ListenAdvice& advice) {
  if (error_number == EADDRINUSE) {
    return FailedPrecondition(fmt::format(
        "port {} is in use on this machine, perhaps by another job: {} (ss -ltnp 'sport = :{}' "
        "shows who)",
        parts.port, advice.port_in_use, parts.port));
  }
  if (error_number == EADDRNOTAVAIL) {
    std::string own;
    for (const std::string& one : OwnAddresses()) own += (own.empty() ? "" : ", ") + one;
    return InvalidArgument(fmt::format("{} '{}' is not this machine, which is {} ({}): {}",
                                       advice.host_name, parts.host, HostName(),
                                       own.empty() ? "no addresses" : own, advice.not_here));
  }
  return ErrnoStatus(error_number, "listen on " + address);
}

// 0, or the errno.
int TryListen(const addrinfo& where, Descriptor& listener) {
  listener = Descriptor(socket(where.ai_family, kSocketFlags, where.ai_protocol));
  if (!listener.is_open()) return errno;
  const int on = 1;
  const int off = 0;
  (void)setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (where.ai_family == AF_INET6)
    (void)setsockopt(listener.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  if (bind(listener.get(), where.ai_addr, where.ai_addrlen) != 0) return errno;
  return listen(listener.get(), SOMAXCONN) == 0 ? 0 : errno;
}

// 0, or the errno. Waits up to the timeout.
int TryConnect(int fd, const sockaddr* name, socklen_t size, std::chrono::milliseconds timeout) {
  if (connect(fd, name, size) == 0) return 0;
  if (errno != EINPROGRESS && errno != EINTR) return errno;
  pollfd waiting = {fd, POLLOUT, 0};
  const int ready = poll(&waiting, 1, static_cast<int>(timeout.count()));
  if (ready < 0) return errno;
  if (ready == 0) return ETIMEDOUT;
  int error = 0;
  socklen_t length = sizeof error;
  return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0 ? error : errno;
}

Status ConnectError(int error_number, const std::string& address) {
  return Unavailable(fmt::format("{}: {}", address, std::strerror(error_number)));
}

Result<Descriptor> ConnectToUnix(const std::string& address, std::chrono::milliseconds timeout) {
  STRATA_ASSIGN_OR_RETURN(sockaddr_un name, UnixAddress(address));
  Descriptor connection(socket(AF_UNIX, kSocketFlags, 0));
  if (!connection.is_open()) return ErrnoStatus(errno, "socket");
  const int error =
      TryConnect(connection.get(), reinterpret_cast<sockaddr*>(&name), sizeof name, timeout);
  if (error != 0) return ConnectError(error, address);
  return connection;
}

std::string NumericHost(const sockaddr* name, socklen_t size) {
  std::array<char, NI_MAXHOST> host = {};
  if (getnameinfo(name, size, host.data(), host.size(), nullptr, 0, NI_NUMERICHOST) != 0) return {};
  return host.data();
}

}  // namespace

std::string TcpAddress(const std::string& host, uint16_t port) {
  const bool is_ipv6 = host.find(':') != std::string::npos;
  return is_ipv6 ? fmt::format("[{}]:{}", host, port) : fmt::format("{}:{}", host, port);
}

Result<Descriptor> ListenOn(const std::string& address, const ListenAdvice& advice) {
  if (address.starts_with(kUnix)) return ListenOnUnix(address);
  STRATA_ASSIGN_OR_RETURN(HostAndPort parts, Split(address));
  STRATA_ASSIGN_OR_RETURN(AddressList list, Resolve(parts, AI_PASSIVE));
  int error = EADDRNOTAVAIL;
  for (const addrinfo* where = list.get(); where != nullptr; where = where->ai_next) {
    Descriptor listener;
    const int result = TryListen(*where, listener);
    if (result == 0) return listener;
    // A port in use says more than the machine's lack of IPv6.
    if (error != EADDRINUSE) error = result;
  }
  return ListenError(error, address, parts, advice);
}

Result<Descriptor> ConnectTo(const std::string& address, std::chrono::milliseconds timeout) {
  if (address.starts_with(kUnix)) return ConnectToUnix(address, timeout);
  STRATA_ASSIGN_OR_RETURN(HostAndPort parts, Split(address));
  STRATA_ASSIGN_OR_RETURN(AddressList list, Resolve(parts, 0));
  int error = ECONNREFUSED;
  for (const addrinfo* where = list.get(); where != nullptr; where = where->ai_next) {
    Descriptor connection(socket(where->ai_family, kSocketFlags, where->ai_protocol));
    if (!connection.is_open()) return ErrnoStatus(errno, "socket");
    error = TryConnect(connection.get(), where->ai_addr, where->ai_addrlen, timeout);
    if (error == 0) return connection;
  }
  return ConnectError(error, address);
}

std::string PeerOf(int fd) {
  sockaddr_storage name = {};
  socklen_t size = sizeof name;
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&name), &size) != 0) return "nobody";
  if (name.ss_family == AF_UNIX) return "unix";
  return NumericHost(reinterpret_cast<sockaddr*>(&name), size);
}

void NoticeDeadPeers(int fd) {
  const auto set = [fd](int level, int option, int value) {
    (void)setsockopt(fd, level, option, &value, sizeof value);
  };
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 5);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 3);
  set(IPPROTO_TCP, TCP_KEEPCNT, 3);
  set(IPPROTO_TCP, TCP_USER_TIMEOUT, 15'000);
  set(IPPROTO_TCP, TCP_NODELAY, 1);
}

std::vector<std::string> OwnAddresses() {
  ifaddrs* first = nullptr;
  if (getifaddrs(&first) != 0) return {};
  const std::unique_ptr<ifaddrs, decltype(&freeifaddrs)> list(first, &freeifaddrs);
  std::vector<std::string> addresses;
  for (const ifaddrs* one = first; one != nullptr; one = one->ifa_next) {
    if (one->ifa_addr == nullptr || (one->ifa_flags & IFF_LOOPBACK) != 0) continue;
    if ((one->ifa_flags & IFF_UP) == 0) continue;
    const int family = one->ifa_addr->sa_family;
    if (family != AF_INET && family != AF_INET6) continue;
    std::string text =
        NumericHost(one->ifa_addr, family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6));
    if (!text.empty() && text.find('%') == std::string::npos) addresses.push_back(std::move(text));
  }
  return addresses;
}

std::string HostName() {
  std::array<char, 256> name = {};
  return gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "unknown-host";
}

}  // namespace strata
