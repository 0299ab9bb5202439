#include "engine/comm/tcp/blocking_io.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <span>

namespace strata::engine {
namespace {

// Who connects by chance does not begin like this.
constexpr std::array<char, 8> kMagic = {'s', 't', 'r', 'a', 't', 'a', '0', '1'};
constexpr uint32_t kLongestText = 1 << 20;

struct Header {
  std::array<char, 8> magic = kMagic;
  uint32_t size = 0;
};

bool Await(int connection, short events, Deadline deadline) {
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
      deadline - std::chrono::steady_clock::now());
  pollfd watched = {connection, events, 0};
  const auto timeout = std::clamp<int64_t>(left.count() + 1, 0, 1'000'000);
  return poll(&watched, 1, static_cast<int>(timeout)) > 0;
}

bool IsLate(Deadline deadline) { return std::chrono::steady_clock::now() >= deadline; }

Status Late() { return Status(Code::kDeadlineExceeded, "nothing came in time"); }

Status SendAll(int connection, std::span<const char> bytes, Deadline deadline) {
  while (!bytes.empty()) {
    const ssize_t sent = send(connection, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent > 0) {
      bytes = bytes.subspan(static_cast<size_t>(sent));
    } else if (errno == EAGAIN || errno == EINTR) {
      if (IsLate(deadline)) return Late();
      Await(connection, POLLOUT, deadline);
    } else {
      return Unavailable(fmt::format("send: {}", std::strerror(errno)));
    }
  }
  return OkStatus();
}

Status ReceiveAll(int connection, std::span<char> bytes, Deadline deadline) {
  while (!bytes.empty()) {
    const ssize_t received = recv(connection, bytes.data(), bytes.size(), 0);
    if (received > 0) {
      bytes = bytes.subspan(static_cast<size_t>(received));
    } else if (received == 0) {
      return Unavailable("the other end closed the connection");
    } else if (errno == EAGAIN || errno == EINTR) {
      if (IsLate(deadline)) return Late();
      Await(connection, POLLIN, deadline);
    } else {
      return Unavailable(fmt::format("receive: {}", std::strerror(errno)));
    }
  }
  return OkStatus();
}

}  // namespace

Status SendText(int connection, std::string_view text, Deadline deadline) {
  const Header header{.size = static_cast<uint32_t>(text.size())};
  STRATA_RETURN_IF_ERROR(
      SendAll(connection, {reinterpret_cast<const char*>(&header), sizeof(header)}, deadline));
  return SendAll(connection, text, deadline);
}

Result<std::string> ReceiveText(int connection, Deadline deadline) {
  Header header;
  STRATA_RETURN_IF_ERROR(
      ReceiveAll(connection, {reinterpret_cast<char*>(&header), sizeof(header)}, deadline));
  if (header.magic != kMagic || header.size > kLongestText)
    return Internal("who answers is no rank of strata");
  std::string text(header.size, '\0');
  STRATA_RETURN_IF_ERROR(ReceiveAll(connection, text, deadline));
  return text;
}

bool AwaitReadable(int connection, Deadline deadline) {
  return Await(connection, POLLIN, deadline);
}

}  // namespace strata::engine
