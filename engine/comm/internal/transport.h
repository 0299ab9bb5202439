// What a message-passing library is used for: meeting at the start, and messages between nodes.
//
// Everything else (who reads whose memory, in which order sums are made, deadlines, failures) is
// ours, above it, so that it is the same over every library and tested without one.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "aio/base/status.h"
#include "engine/comm/communicator.h"

namespace strata::engine {

enum class MessageTag : uint8_t { kAnnouncement, kRow, kPartialSum, kSum };

// A message under way, in the library's words; 0 once it has arrived or was sent.
using MessageHandle = uint64_t;

// Thread-safe: each channel is used by one thread at a time, different ones at once.
class Transport {
 public:
  virtual ~Transport() = default;
  virtual uint32_t rank() const = 0;
  virtual uint32_t world_size() const = 0;
  virtual std::string name() const = 0;         // "mpi"
  virtual std::string description() const = 0;  // "Open MPI v4.1.4"
  // The lowest rank that runs on this machine.
  virtual uint32_t first_rank_of_machine() const = 0;

  // At the start only: blocks until all ranks have called it.
  virtual Status Meet(std::span<const std::byte> mine, std::span<std::byte> of_all) = 0;

  // Neither blocks; the memory is the library's until the handle is 0. Between two ranks, messages
  // with one tag on one channel arrive in the order in which they were sent.
  virtual Result<MessageHandle> Send(ChannelId channel, uint32_t peer, MessageTag tag,
                                     std::span<const std::byte> bytes) = 0;
  virtual Result<MessageHandle> Receive(ChannelId channel, uint32_t peer, MessageTag tag,
                                        std::span<std::byte> into) = 0;
  // Moves messages on, and sets the handles of those that are over to 0.
  virtual Status Poll(std::span<MessageHandle> handles) = 0;

  // Tells another rank why this one fails; may be lost. FlushNotices() waits a moment for them to
  // go.
  virtual void SendNotice(uint32_t peer, std::string_view text) = 0;
  virtual void FlushNotices() = 0;
  virtual std::optional<std::string> ReceiveNotice() = 0;

  // Whether ranks may still wait for each other when the library is shut down.
  virtual void SetBroken() = 0;
};

}  // namespace strata::engine
