#include "engine/comm/tcp/peer_connection.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace strata::engine {
namespace {

constexpr uint64_t kLongestFrame = uint64_t{1} << 40;  // longer is no frame

}  // namespace

void PeerConnection::Send(const FrameHeader& header, std::span<const std::byte> bytes,
                          std::function<void()> on_sent) {
  queue_.push_back({.header = header, .bytes = bytes, .copy = {}, .on_sent = std::move(on_sent)});
}

void PeerConnection::SendCopy(const FrameHeader& header, std::string_view bytes) {
  const auto as_bytes = std::as_bytes(std::span(bytes));
  queue_.push_back(
      {.header = header, .bytes = {}, .copy = {as_bytes.begin(), as_bytes.end()}, .on_sent = {}});
  queue_.back().bytes = queue_.back().copy;  // a deque does not move its elements
}

void PeerConnection::Flush() {
  while (has_to_send()) {
    Outgoing& next = queue_.front();
    const auto header = std::as_bytes(std::span(&next.header, 1));
    const auto of_header = header.subspan(std::min(next.num_sent, header.size()));
    const size_t num_bytes_sent = next.num_sent - (header.size() - of_header.size());
    const auto of_bytes = next.bytes.subspan(num_bytes_sent);
    std::array<iovec, 2> parts = {iovec{const_cast<std::byte*>(of_header.data()), of_header.size()},
                                  iovec{const_cast<std::byte*>(of_bytes.data()), of_bytes.size()}};
    msghdr message = {};
    message.msg_iov = parts.data();
    message.msg_iovlen = parts.size();
    const ssize_t sent = sendmsg(connection_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (sent < 0) {
      cannot_send_ = true;
      return;
    }
    next.num_sent += static_cast<size_t>(sent);
    if (next.num_sent < header.size() + next.bytes.size()) continue;
    const std::function<void()> on_sent = std::move(next.on_sent);
    queue_.pop_front();
    if (on_sent) on_sent();
  }
}

Result<size_t> PeerConnection::Read(std::span<std::byte> to) {
  const ssize_t received = recv(connection_.get(), to.data(), to.size(), MSG_DONTWAIT);
  if (received > 0) return static_cast<size_t>(received);
  if (received < 0 && (errno == EAGAIN || errno == EINTR)) return size_t{0};
  is_over_ = true;
  if (received < 0) return ErrnoStatus(errno, "receive");
  return Unavailable("the connection was closed");
}

Status PeerConnection::Receive(const PlaceOf& place_of, const OnFrame& on_frame) {
  while (!is_over_) {
    const auto header = std::as_writable_bytes(std::span(&arriving_, 1));
    if (num_arrived_ < header.size()) {
      STRATA_ASSIGN_OR_RETURN(const size_t num_read, Read(header.subspan(num_arrived_)));
      if (num_read == 0) return OkStatus();
      num_arrived_ += num_read;
      if (num_arrived_ < header.size()) continue;
      if (arriving_.size_bytes > kLongestFrame || arriving_.kind > FrameKind::kGoodbye) {
        is_over_ = true;
        return Internal("what arrives is no frame");
      }
      place_ = place_of(arriving_);
      if (place_.empty()) {
        kept_.resize(arriving_.size_bytes);
        place_ = kept_;
      }
    }
    if (const auto rest = place_.subspan(num_arrived_ - header.size()); !rest.empty()) {
      STRATA_ASSIGN_OR_RETURN(const size_t num_read, Read(rest));
      if (num_read == 0) return OkStatus();
      num_arrived_ += num_read;
      if (num_read < rest.size()) continue;
    }
    num_arrived_ = 0;
    place_ = {};
    STRATA_RETURN_IF_ERROR(on_frame(arriving_, std::exchange(kept_, {})));
  }
  return OkStatus();
}

void PeerConnection::LetGo() {
  std::erase_if(queue_, [](const Outgoing& one) {
    return one.num_sent == 0 && one.header.kind == FrameKind::kMessage;
  });
  for (Outgoing& one : queue_) {
    if (one.copy.empty()) one.copy.assign(one.bytes.begin(), one.bytes.end());
    one.bytes = one.copy;
    one.on_sent = {};
  }
  if (place_.empty() || !kept_.empty()) return;
  kept_.resize(place_.size());
  std::copy(place_.begin(), place_.end(), kept_.begin());
  place_ = kept_;
}

void PeerConnection::SendNoMore() {
  if (connection_.is_open()) static_cast<void>(shutdown(connection_.get(), SHUT_WR));
}

}  // namespace strata::engine
