// The messages of one channel that are under way.
#pragma once

#include <vector>

#include "engine/comm/internal/transport.h"

namespace strata::engine {

// Thread-compatible.
class Messages {
 public:
  using Ticket = size_t;

  Messages(Transport* transport, ChannelId channel) : transport_(*transport), channel_(channel) {}

  Result<Ticket> Send(uint32_t peer, MessageTag tag, std::span<const std::byte> bytes) {
    STRATA_ASSIGN_OR_RETURN(const MessageHandle handle,
                            transport_.Send(channel_, peer, tag, bytes));
    return Add(handle, peer);
  }
  Result<Ticket> Receive(uint32_t peer, MessageTag tag, std::span<std::byte> into) {
    STRATA_ASSIGN_OR_RETURN(const MessageHandle handle,
                            transport_.Receive(channel_, peer, tag, into));
    return Add(handle, peer);
  }

  Status Poll() {
    Skip();
    if (!any()) return OkStatus();
    STRATA_RETURN_IF_ERROR(transport_.Poll(std::span(handles_).subspan(begin_)));
    Skip();
    return OkStatus();
  }
  bool any() const { return begin_ < handles_.size(); }
  bool IsOver(Ticket ticket) const { return handles_[ticket] == 0; }
  uint32_t peer_of(Ticket ticket) const { return peers_[ticket]; }
  // Of the oldest that is under way.
  uint32_t first_peer() const { return peers_[begin_]; }
  // Forgets the tickets of a collective that is over.
  void Clear() {
    STRATA_CHECK(!any());
    handles_.clear();
    peers_.clear();
    begin_ = 0;
  }

 private:
  Ticket Add(MessageHandle handle, uint32_t peer) {
    handles_.push_back(handle);
    peers_.push_back(peer);
    return handles_.size() - 1;
  }
  void Skip() {
    while (any() && handles_[begin_] == 0) ++begin_;
  }

  Transport& transport_;
  const ChannelId channel_;
  std::vector<MessageHandle> handles_;  // by ticket
  std::vector<uint32_t> peers_;
  size_t begin_ = 0;  // those before it are over
};

}  // namespace strata::engine
