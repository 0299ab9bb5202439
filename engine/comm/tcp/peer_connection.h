// Frames between this rank and another one, over a connection that never blocks.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "aio/base/descriptor.h"
#include "aio/base/status.h"

namespace strata::engine {

enum class FrameKind : uint8_t { kMeeting, kMessage, kNotice, kGoodbye };

struct FrameHeader {
  uint64_t size_bytes = 0;
  FrameKind kind = FrameKind::kMessage;
  uint8_t channel = 0;
  uint8_t tag = 0;
  uint8_t padding[5] = {};
};

// Thread-compatible.
class PeerConnection {
 public:
  // Where the bytes of a frame that begins to arrive go: as many as it has. Empty: kept, and given
  // to `on_frame`.
  using PlaceOf = std::function<std::span<std::byte>(const FrameHeader&)>;
  // A frame has arrived, where it was to go, or in `bytes`.
  using OnFrame = std::function<Status(const FrameHeader&, std::vector<std::byte> bytes)>;

  explicit PeerConnection(Descriptor connection) : connection_(std::move(connection)) {}

  int fd() const { return connection_.get(); }
  // Nothing will come, or go, any more.
  bool is_over() const { return is_over_; }
  bool has_to_send() const { return !queue_.empty() && !is_over_ && !cannot_send_; }

  // `on_sent` is called once the bytes are the kernel's; until then they stay where they are.
  void Send(const FrameHeader& header, std::span<const std::byte> bytes,
            std::function<void()> on_sent);
  // The same of bytes of its own.
  void SendCopy(const FrameHeader& header, std::string_view bytes);
  // Moves what can be moved now. What the other end said before it went can be received yet when
  // nothing can be sent to it; so only Receive() fails when the connection has.
  void Flush();
  Status Receive(const PlaceOf& place_of, const OnFrame& on_frame);

  // The memory of what is sent and received may go: what has been sent in part is sent from a copy,
  // what arrives is lost, and what has not begun is not sent.
  void LetGo();
  // Once all is sent: the other end sees that this was the last of it.
  void SendNoMore();

 private:
  struct Outgoing {
    FrameHeader header;
    std::span<const std::byte> bytes;
    std::vector<std::byte> copy;
    std::function<void()> on_sent;
    size_t num_sent = 0;  // header and bytes
  };

  // How many more bytes were read; 0: none for now.
  Result<size_t> Read(std::span<std::byte> to);

  Descriptor connection_;
  bool is_over_ = false;
  bool cannot_send_ = false;
  std::deque<Outgoing> queue_;

  FrameHeader arriving_;
  size_t num_arrived_ = 0;  // header and bytes
  std::span<std::byte> place_;
  std::vector<std::byte> kept_;
};

}  // namespace strata::engine
