// Where processes find each other: "unix:/path" or "host:port".
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "aio/base/descriptor.h"
#include "aio/base/status.h"

namespace strata {

std::string TcpAddress(const std::string& host, uint16_t port);

// What a person can do where there is no listening.
struct ListenAdvice {
  std::string_view port_in_use = "choose another port";
  std::string_view host_name = "address";  // what names it: "--master-addr"
  std::string_view not_here = "give one of these";
};

// A non-blocking listener. ":29500" listens on all addresses of this machine. The message says what
// to do about a port in use, a host that is another machine, a name that nobody knows.
Result<Descriptor> ListenOn(const std::string& address, const ListenAdvice& advice = {});

// A connected, non-blocking socket. kUnavailable when nobody answers (yet), kNotFound when the
// name is not known. Blocks up to `timeout` for each address that the name stands for.
Result<Descriptor> ConnectTo(const std::string& address, std::chrono::milliseconds timeout);

// Who is at the other end: "10.0.0.2", "unix".
std::string PeerOf(int socket);

// Ends the connection when the other machine stops answering: within about 15 s.
void NoticeDeadPeers(int socket);

// This machine's addresses, without loopback and link-local ones.
std::vector<std::string> OwnAddresses();

std::string HostName();

}  // namespace strata
