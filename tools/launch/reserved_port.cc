#include "tools/launch/reserved_port.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

namespace strata::launch {
namespace {

// Of all addresses, IPv4's too.
Status BindToAnyPort(int family, Descriptor& bound) {
  bound = Descriptor(socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!bound.is_open()) return ErrnoStatus(errno, "socket");
  const int on = 1;
  const int off = 0;
  // Two such sockets may have one port until one of them listens.
  if (setsockopt(bound.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0)
    return ErrnoStatus(errno, "SO_REUSEADDR");
  if (family == AF_INET6)
    (void)setsockopt(bound.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  sockaddr_in6 six = {};
  six.sin6_family = AF_INET6;
  sockaddr_in four = {};
  four.sin_family = AF_INET;
  const bool is_six = family == AF_INET6;
  const auto* name =
      is_six ? reinterpret_cast<const sockaddr*>(&six) : reinterpret_cast<const sockaddr*>(&four);
  if (bind(bound.get(), name, is_six ? sizeof six : sizeof four) != 0)
    return ErrnoStatus(errno, "bind");
  return OkStatus();
}

Result<uint16_t> PortOf(int socket) {
  sockaddr_storage name = {};
  socklen_t size = sizeof name;
  if (getsockname(socket, reinterpret_cast<sockaddr*>(&name), &size) != 0)
    return ErrnoStatus(errno, "getsockname");
  return ntohs(name.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6*>(&name)->sin6_port
                                          : reinterpret_cast<sockaddr_in*>(&name)->sin_port);
}

}  // namespace

Result<ReservedPort> ReservedPort::Find() {
  Descriptor bound;
  Status status = BindToAnyPort(AF_INET6, bound);
  if (!status.ok()) status = BindToAnyPort(AF_INET, bound);  // a kernel without IPv6
  if (!status.ok()) return status.With("finding a port where ranks can meet");
  STRATA_ASSIGN_OR_RETURN(const uint16_t port, PortOf(bound.get()));
  return ReservedPort(std::move(bound), port);
}

}  // namespace strata::launch
