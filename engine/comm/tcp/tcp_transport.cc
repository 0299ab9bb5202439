#include "engine/comm/tcp/tcp_transport.h"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "engine/comm/internal/plugin.h"
#include "engine/comm/internal/questions.h"
#include "engine/comm/tcp/peer_connection.h"
#include "engine/comm/tcp/rendezvous.h"

namespace strata::engine {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kTimeForNotices(200);
constexpr milliseconds kTimeToLeave(2'000);
constexpr milliseconds kPause(1);
constexpr milliseconds kLongestMeeting(60'000);  // once all have found each other

class TcpTransport final : public Transport {
 public:
  TcpTransport(uint32_t rank, Introductions introductions)
      : rank_(rank),
        hosts_(std::move(introductions.hosts)),
        first_rank_of_machine_(introductions.first_rank_of_machine[rank]) {
    for (Descriptor& connection : introductions.connections) {
      Peer peer{.connection = PeerConnection(std::move(connection))};
      peers_.push_back(std::move(peer));
    }
  }
  ~TcpTransport() override { Leave(); }

  uint32_t rank() const override { return rank_; }
  uint32_t world_size() const override { return static_cast<uint32_t>(peers_.size()); }
  std::string name() const override { return "tcp"; }
  std::string description() const override { return "TCP connections"; }
  uint32_t first_rank_of_machine() const override { return first_rank_of_machine_; }

  Status Meet(std::span<const std::byte> mine, std::span<std::byte> of_all) override;
  Result<MessageHandle> Send(ChannelId channel, uint32_t peer, MessageTag tag,
                             std::span<const std::byte> bytes) override;
  Result<MessageHandle> Receive(ChannelId channel, uint32_t peer, MessageTag tag,
                                std::span<std::byte> into) override;
  Status Poll(std::span<MessageHandle> handles) override;
  void SendNotice(uint32_t peer, std::string_view text) override;
  void FlushNotices() override;
  std::optional<std::string> ReceiveNotice() override;
  void SetBroken() override;

 private:
  struct Peer {
    PeerConnection connection;
    bool has_left = false;  // it said so
    bool is_lost = false;   // it did not
  };
  // Of messages: those that match by it arrive in order.
  using Key = std::tuple<uint32_t, uint8_t, uint8_t>;  // peer, channel, tag
  struct Expected {
    MessageHandle handle = 0;
    std::span<std::byte> into;
    bool is_arriving = false;
  };
  struct Outcome {
    bool is_over = false;
    Status status;  // of a message that is not what was expected
  };
  struct Mail {
    std::deque<Expected> expected;             // that nothing has come for, or only in part
    std::deque<std::vector<std::byte>> early;  // that nobody has asked for yet
  };

  // All under the mutex.
  void Move();
  void MoveTo(uint32_t rank, bool can_read);
  std::span<std::byte> PlaceOf(uint32_t from, const FrameHeader& header);
  Status Take(uint32_t from, const FrameHeader& header, std::vector<std::byte> bytes);
  Status TakeMessage(uint32_t from, const FrameHeader& header, std::vector<std::byte> bytes);
  static Outcome Deliver(uint32_t from, std::span<const std::byte> bytes,
                         std::span<std::byte> into);
  void Lose(uint32_t rank, const Status& how);
  bool has_to_send() const {
    return std::any_of(peers_.begin(), peers_.end(),
                       [](const Peer& peer) { return peer.connection.has_to_send(); });
  }
  void Leave();

  const uint32_t rank_;
  const std::vector<std::string> hosts_;
  const uint32_t first_rank_of_machine_;
  std::mutex mutex_;         // of all below
  std::vector<Peer> peers_;  // by rank; this one's is over
  MessageHandle num_handles_ = 0;
  std::map<MessageHandle, Outcome> handles_;  // until somebody has heard of it
  std::map<Key, Mail> mail_;
  std::map<uint32_t, std::deque<std::vector<std::byte>>> meetings_;  // by rank
  std::deque<std::string> notices_;
  bool is_broken_ = false;
};

void TcpTransport::Move() {
  std::vector<pollfd> watched;
  std::vector<uint32_t> ranks;
  for (uint32_t rank = 0; rank < peers_.size(); ++rank) {
    if (rank == rank_ || peers_[rank].connection.is_over()) continue;
    const bool sends = peers_[rank].connection.has_to_send();
    watched.push_back(
        {peers_[rank].connection.fd(), static_cast<short>(sends ? POLLIN | POLLOUT : POLLIN), 0});
    ranks.push_back(rank);
  }
  if (poll(watched.data(), watched.size(), 0) <= 0) return;
  for (size_t i = 0; i < watched.size(); ++i)
    if (watched[i].revents != 0) MoveTo(ranks[i], (watched[i].revents & ~POLLOUT) != 0);
}

void TcpTransport::MoveTo(uint32_t rank, bool can_read) {
  PeerConnection& connection = peers_[rank].connection;
  connection.Flush();
  if (!can_read) return;
  const Status received =
      connection.Receive([&](const FrameHeader& header) { return PlaceOf(rank, header); },
                         [&](const FrameHeader& header, std::vector<std::byte> bytes) {
                           return Take(rank, header, std::move(bytes));
                         });
  if (!received.ok()) Lose(rank, received);
}

// As a notice from it would say it; one that told why before it ended has been heard first.
void TcpTransport::Lose(uint32_t rank, const Status& how) {
  Peer& peer = peers_[rank];
  if (peer.has_left || peer.is_lost) return;
  peer.is_lost = true;
  notices_.push_back(
      FailureText(fmt::format("rank {} (on {}) has ended: {}", rank, hosts_[rank], how.message())));
}

std::span<std::byte> TcpTransport::PlaceOf(uint32_t from, const FrameHeader& header) {
  if (header.kind != FrameKind::kMessage || is_broken_) return {};
  Mail& mail = mail_[{from, header.channel, header.tag}];
  if (mail.expected.empty() || !mail.early.empty()) return {};
  Expected& expected = mail.expected.front();
  if (expected.into.size() != header.size_bytes) return {};
  expected.is_arriving = true;
  return expected.into;
}

Status TcpTransport::Take(uint32_t from, const FrameHeader& header, std::vector<std::byte> bytes) {
  switch (header.kind) {
    case FrameKind::kMeeting:
      meetings_[from].push_back(std::move(bytes));
      return OkStatus();
    case FrameKind::kMessage:
      return is_broken_ ? OkStatus() : TakeMessage(from, header, std::move(bytes));
    case FrameKind::kNotice:
      notices_.emplace_back(reinterpret_cast<const char*>(bytes.data()), bytes.size());
      return OkStatus();
    case FrameKind::kGoodbye:
      peers_[from].has_left = true;
      return OkStatus();
  }
  return Internal("a frame of no known kind");
}

Status TcpTransport::TakeMessage(uint32_t from, const FrameHeader& header,
                                 std::vector<std::byte> bytes) {
  Mail& mail = mail_[{from, header.channel, header.tag}];
  if (!mail.expected.empty() && mail.expected.front().is_arriving) {
    handles_[mail.expected.front().handle].is_over = true;
    mail.expected.pop_front();
    return OkStatus();
  }
  if (mail.expected.empty()) {
    mail.early.push_back(std::move(bytes));
    return OkStatus();
  }
  // It was asked for while it arrived.
  const Expected expected = mail.expected.front();
  mail.expected.pop_front();
  handles_[expected.handle] = Deliver(from, bytes, expected.into);
  return OkStatus();
}

TcpTransport::Outcome TcpTransport::Deliver(uint32_t from, std::span<const std::byte> bytes,
                                            std::span<std::byte> into) {
  if (bytes.size() == into.size()) {
    std::copy(bytes.begin(), bytes.end(), into.begin());
    return {.is_over = true, .status = {}};
  }
  return {.is_over = true,
          .status = Status(Code::kIoError,
                           fmt::format("a message of {} bytes from rank {}, where {} were expected",
                                       bytes.size(), from, into.size()))};
}

Status TcpTransport::Meet(std::span<const std::byte> mine, std::span<std::byte> of_all) {
  STRATA_CHECK(of_all.size() == mine.size() * peers_.size());
  const Clock::time_point end = Clock::now() + kLongestMeeting;
  std::unique_lock lock(mutex_);
  const FrameHeader header{.size_bytes = mine.size(), .kind = FrameKind::kMeeting};
  const std::string_view text(reinterpret_cast<const char*>(mine.data()), mine.size());
  for (uint32_t rank = 0; rank < peers_.size(); ++rank)
    if (rank != rank_) peers_[rank].connection.SendCopy(header, text);
  std::memcpy(of_all.data() + rank_ * mine.size(), mine.data(), mine.size());
  for (uint32_t rank = 0; rank < peers_.size(); ++rank) {
    if (rank == rank_) continue;
    std::deque<std::vector<std::byte>>& from = meetings_[rank];
    while (from.empty() || has_to_send()) {
      Move();
      if (peers_[rank].is_lost)
        return Unavailable(fmt::format("rank {} (on {}) has ended", rank, hosts_[rank]));
      if (Clock::now() > end)
        return Status(Code::kDeadlineExceeded, fmt::format("rank {} does not answer", rank));
      lock.unlock();
      std::this_thread::sleep_for(kPause);
      lock.lock();
    }
    if (from.front().size() != mine.size())
      return Internal(fmt::format("rank {} says something else than rank {}", rank, rank_));
    std::memcpy(of_all.data() + rank * mine.size(), from.front().data(), mine.size());
    from.pop_front();
  }
  return OkStatus();
}

Result<MessageHandle> TcpTransport::Send(ChannelId channel, uint32_t peer, MessageTag tag,
                                         std::span<const std::byte> bytes) {
  std::lock_guard lock(mutex_);
  const MessageHandle handle = ++num_handles_;
  handles_[handle] = {};
  peers_[peer].connection.Send({.size_bytes = bytes.size(),
                                .kind = FrameKind::kMessage,
                                .channel = static_cast<uint8_t>(channel),
                                .tag = static_cast<uint8_t>(tag)},
                               bytes, [this, handle] { handles_[handle].is_over = true; });
  peers_[peer].connection.Flush();
  return handle;
}

Result<MessageHandle> TcpTransport::Receive(ChannelId channel, uint32_t peer, MessageTag tag,
                                            std::span<std::byte> into) {
  std::lock_guard lock(mutex_);
  const MessageHandle handle = ++num_handles_;
  Mail& mail = mail_[{peer, static_cast<uint8_t>(channel), static_cast<uint8_t>(tag)}];
  if (mail.early.empty()) {
    handles_[handle] = {};
    mail.expected.push_back({handle, into});
    return handle;
  }
  handles_[handle] = Deliver(peer, mail.early.front(), into);
  mail.early.pop_front();
  return handle;
}

Status TcpTransport::Poll(std::span<MessageHandle> handles) {
  std::lock_guard lock(mutex_);
  Move();
  Status status;
  for (MessageHandle& handle : handles) {
    const auto found = handles_.find(handle);
    if (found == handles_.end() || !found->second.is_over) continue;
    if (status.ok()) status = found->second.status;
    handles_.erase(found);
    handle = 0;
  }
  return status;
}

void TcpTransport::SendNotice(uint32_t peer, std::string_view text) {
  std::lock_guard lock(mutex_);
  if (peers_[peer].connection.is_over()) return;
  peers_[peer].connection.SendCopy({.size_bytes = text.size(), .kind = FrameKind::kNotice}, text);
  peers_[peer].connection.Flush();
}

void TcpTransport::FlushNotices() {
  const Clock::time_point end = Clock::now() + kTimeForNotices;
  std::unique_lock lock(mutex_);
  for (Move(); has_to_send() && Clock::now() < end; Move()) {
    lock.unlock();
    std::this_thread::sleep_for(kPause);
    lock.lock();
  }
}

std::optional<std::string> TcpTransport::ReceiveNotice() {
  std::lock_guard lock(mutex_);
  if (notices_.empty()) Move();
  if (notices_.empty()) return std::nullopt;
  std::string text = std::move(notices_.front());
  notices_.pop_front();
  return text;
}

void TcpTransport::SetBroken() {
  std::lock_guard lock(mutex_);
  is_broken_ = true;
  mail_.clear();
  for (Peer& peer : peers_) peer.connection.LetGo();
}

// What is on its way arrives before the connection ends; the others leave now, too, or have heard
// why not.
void TcpTransport::Leave() {
  const Clock::time_point end = Clock::now() + (is_broken_ ? kTimeForNotices : kTimeToLeave);
  std::lock_guard lock(mutex_);
  for (uint32_t rank = 0; rank < peers_.size(); ++rank)
    if (rank != rank_) peers_[rank].connection.SendCopy({.kind = FrameKind::kGoodbye}, "");
  const auto is_waited_for = [&](uint32_t rank) {
    return rank != rank_ && !peers_[rank].connection.is_over();
  };
  std::vector<bool> is_told(peers_.size());
  for (bool waits = true; waits && Clock::now() < end;) {
    Move();
    waits = false;
    for (uint32_t rank = 0; rank < peers_.size(); ++rank) {
      if (!is_waited_for(rank)) continue;
      waits = true;
      if (is_told[rank] || peers_[rank].connection.has_to_send()) continue;
      is_told[rank] = true;
      peers_[rank].connection.SendNoMore();
    }
    if (waits) std::this_thread::sleep_for(kPause);
  }
}

}  // namespace

Result<std::unique_ptr<Transport>> JoinOverTcp(const RankEnvironment& environment,
                                               milliseconds deadline) {
  RendezvousOptions options{.rank = environment.rank,
                            .world_size = environment.world_size,
                            .host = environment.master_addr,
                            .port = environment.control_port,
                            .build = kTransportPluginBuild,
                            .machine = NameOfThisMachine()};
  if (deadline.count() > 0) options.deadline = deadline;
  STRATA_ASSIGN_OR_RETURN(Introductions introductions, MeetOverTcp(options));
  return std::unique_ptr<Transport>(
      std::make_unique<TcpTransport>(environment.rank, std::move(introductions)));
}

}  // namespace strata::engine
