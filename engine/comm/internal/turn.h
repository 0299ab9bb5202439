// One collective of this rank on one channel, from its announcement to the moment when no other
// rank needs this rank's memory for it any more.
//
// A collective is cut into rows. Of each row, ranks of the node read each other's part: where the
// payload is, if it is in shared memory, else from a slot of the staging buffer, which is refilled
// once all have read it. Whoever waits also moves messages on and notices failures.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "engine/comm/internal/messages.h"
#include "engine/comm/internal/world.h"

namespace strata::engine {

// What a channel keeps from one turn to the next.
struct ChannelState {
  ChannelId id = ChannelId::kControl;
  uint32_t number = 0;     // of collectives begun
  uint32_t rows_done = 0;  // of all collectives, wraps
  Messages messages;
};

class Turn {
 public:
  // `source` is what the ranks of the node read of this rank from the start, `relay` what they read
  // once it has come from another node. Either may be empty.
  struct Plan {
    Announcement announcement;
    uint64_t num_rows = 0;
    std::span<const std::byte> source = {};
    std::span<const std::byte> relay = {};
  };

  Turn(World* world, ChannelState* state) : world_(*world), state_(*state) {}

  Status Begin(const Plan& plan);
  // Waits until no rank needs this rank's memory and all messages are over.
  Status End();

  bool source_is_staged() const { return mine_.source.is_staged(); }
  bool relay_is_staged() const { return mine_.relay.is_staged(); }

  // The slot of a row, once nobody reads in it what it held before.
  Result<std::byte*> TakeSlot(uint64_t row);
  // Rows before `end` may be read by the others.
  void PublishProduced(uint64_t end);
  void PublishRelayed(uint64_t end);
  // This rank has read all that it needs of the rows before `end`.
  void PublishConsumed(uint64_t end);

  // Where `peer`'s part of the row is, `offset_bytes` into its source, or into its slot if staged.
  struct Place {
    uint64_t offset_bytes = 0;
    uint64_t slot_offset_bytes = 0;
  };
  Result<const std::byte*> AwaitProduced(uint32_t peer, uint64_t row, Place place);
  Result<const std::byte*> AwaitRelayed(uint32_t peer, uint64_t row, Place place);

  Result<Messages::Ticket> Send(uint32_t peer, MessageTag tag, std::span<const std::byte> bytes);
  Result<Messages::Ticket> Receive(uint32_t peer, MessageTag tag, std::span<std::byte> into);
  Status Await(Messages::Ticket ticket);

  Traffic& traffic() { return traffic_; }

 private:
  // Waits for `done`, which another rank makes true by moving `counter` (null: by a message).
  Status Await(uint32_t peer, SharedCounter* counter, const std::function<bool()>& done);
  Status AwaitCounter(uint32_t peer, SharedCounter ChannelBoard::*counter, uint32_t value);
  Status AwaitConsumed(uint64_t end);
  Result<Messages::Ticket> Start(uint32_t peer,
                                 const std::function<Result<Messages::Ticket>()>& start);
  Status Poll();
  Status MessagesFailed(const Status& how);
  Status LookAt(uint32_t peer);
  Status ExchangeAnnouncements();
  Status CheckNeighbour();
  bool HasLeft(uint32_t peer);
  // What a wait has seen of whom it is for.
  struct Patience {
    std::chrono::steady_clock::time_point next_question;
    std::optional<World::Culprit> culprit = {};
    std::chrono::steady_clock::time_point last_look = {};
    std::chrono::steady_clock::duration waited = {};  // since the culprit was seen to get on
  };
  Status Late(uint32_t peer, Patience* patience, const std::function<bool()>& done);
  std::string DescribeLate(uint32_t peer, uint32_t culprit,
                           std::chrono::steady_clock::duration waited);
  std::string Doing(uint32_t peer) const;
  ChannelBoard& BoardOf(uint32_t peer) {
    return world_.BoardOf(peer).channels[static_cast<size_t>(state_.id)];
  }
  ChannelBoard& own() { return BoardOf(world_.ranks().rank()); }

  World& world_;
  ChannelState& state_;
  Announcement mine_;
  Announcement neighbours_;  // of the node before this one
  std::optional<Messages::Ticket> neighbour_;
  uint64_t num_rows_ = 0;
  std::vector<bool> seen_;  // by local rank: its announcement is like ours
  Traffic traffic_;
};

}  // namespace strata::engine
