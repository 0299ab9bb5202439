#include "engine/comm/internal/turn.h"

#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <utility>

#include "aio/base/units.h"

namespace strata::engine {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

// About what it takes to wake a sleeper; longer would take the core from a rank that could work.
constexpr int kSpins = 400;
constexpr milliseconds kLongestSleep(20);  // between looks at whether somebody has failed
constexpr milliseconds kTimeToTell(500);
// Looks at a rank that is waited for, per deadline; and the part of it that the rank has in
// addition, to tell itself what it stands still at.
constexpr int kLooksPerDeadline = 8;
constexpr int kGracesPerDeadline = 4;
constexpr long kPollPauseNs = 20'000;  // messages move only when we ask the library to

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

void PauseBetweenPolls() {
  const timespec pause{.tv_sec = 0, .tv_nsec = kPollPauseNs};
  nanosleep(&pause, nullptr);  // an interrupted pause is a shorter one
}

}  // namespace

Status Turn::Begin(const Plan& plan) {
  const RankMap& ranks = world_.ranks();
  if (world_.failed()) return world_.Check([] { return ""; });
  ++state_.number;
  num_rows_ = plan.num_rows;
  seen_.assign(ranks.local_size(), false);
  mine_ = plan.announcement;
  mine_.number = state_.number;
  mine_.source = world_.memory().Find(plan.source);
  mine_.relay = world_.memory().Find(plan.relay);
  // Whoever has begun the last one reads the announcement before that no more.
  for (uint32_t local = 0; local < ranks.local_size(); ++local) {
    STRATA_RETURN_IF_ERROR(AwaitCounter(ranks.first_of(ranks.node()) + local, &ChannelBoard::begun,
                                        state_.number - 1));
  }
  own().announcements[state_.number % 2] = mine_;
  Publish(world_.memory().own_board(), own().begun, state_.number);
  if (num_rows_ > 0 && ranks.num_nodes() > 1 && ranks.local_rank() == 0)
    return ExchangeAnnouncements();
  return OkStatus();
}

Status Turn::End() {
  PublishProduced(num_rows_);
  PublishRelayed(num_rows_);
  PublishConsumed(num_rows_);
  while (state_.messages.any()) {
    STRATA_RETURN_IF_ERROR(
        Await(state_.messages.first_peer(), nullptr, [&] { return !state_.messages.any(); }));
  }
  STRATA_RETURN_IF_ERROR(CheckNeighbour());
  STRATA_RETURN_IF_ERROR(AwaitConsumed(num_rows_));
  state_.messages.Clear();
  state_.rows_done += static_cast<uint32_t>(num_rows_);
  world_.counter().Add(mine_.collective, traffic_);
  return OkStatus();
}

Result<std::byte*> Turn::TakeSlot(uint64_t row) {
  if (row >= NodeMemory::kNumSlots)
    STRATA_RETURN_IF_ERROR(AwaitConsumed(row + 1 - NodeMemory::kNumSlots));
  return world_.memory().OwnSlot(state_.id, row);
}

void Turn::PublishProduced(uint64_t end) {
  Publish(world_.memory().own_board(), own().produced,
          state_.rows_done + static_cast<uint32_t>(end));
}
void Turn::PublishRelayed(uint64_t end) {
  Publish(world_.memory().own_board(), own().relayed,
          state_.rows_done + static_cast<uint32_t>(end));
}
void Turn::PublishConsumed(uint64_t end) {
  Publish(world_.memory().own_board(), own().consumed,
          state_.rows_done + static_cast<uint32_t>(end));
}

Result<const std::byte*> Turn::AwaitProduced(uint32_t peer, uint64_t row, Place place) {
  STRATA_RETURN_IF_ERROR(LookAt(peer));
  STRATA_RETURN_IF_ERROR(AwaitCounter(peer, &ChannelBoard::produced,
                                      state_.rows_done + static_cast<uint32_t>(row + 1)));
  const uint32_t local = peer - world_.ranks().first_of(world_.ranks().node());
  const Exposure& source = BoardOf(peer).announcements[state_.number % 2].source;
  if (source.is_staged())
    return world_.memory().Slot(local, state_.id, row) + place.slot_offset_bytes;
  return world_.memory().At(local, source) + place.offset_bytes;
}

Result<const std::byte*> Turn::AwaitRelayed(uint32_t peer, uint64_t row, Place place) {
  STRATA_RETURN_IF_ERROR(LookAt(peer));
  STRATA_RETURN_IF_ERROR(AwaitCounter(peer, &ChannelBoard::relayed,
                                      state_.rows_done + static_cast<uint32_t>(row + 1)));
  const uint32_t local = peer - world_.ranks().first_of(world_.ranks().node());
  const Exposure& relay = BoardOf(peer).announcements[state_.number % 2].relay;
  if (relay.is_staged())
    return world_.memory().Slot(local, state_.id, row) + place.slot_offset_bytes;
  return world_.memory().At(local, relay) + place.offset_bytes;
}

Result<Messages::Ticket> Turn::Send(uint32_t peer, MessageTag tag,
                                    std::span<const std::byte> bytes) {
  STRATA_ASSIGN_OR_RETURN(const Messages::Ticket ticket,
                          Start(peer, [&] { return state_.messages.Send(peer, tag, bytes); }));
  traffic_.bytes_sent += bytes.size();
  traffic_.bytes_sent_between_nodes += bytes.size();
  return ticket;
}

Result<Messages::Ticket> Turn::Receive(uint32_t peer, MessageTag tag, std::span<std::byte> into) {
  STRATA_ASSIGN_OR_RETURN(const Messages::Ticket ticket,
                          Start(peer, [&] { return state_.messages.Receive(peer, tag, into); }));
  traffic_.bytes_received += into.size();
  traffic_.bytes_received_between_nodes += into.size();
  return ticket;
}

Result<Messages::Ticket> Turn::Start(uint32_t peer,
                                     const std::function<Result<Messages::Ticket>()>& start) {
  Result<Messages::Ticket> ticket = Messages::Ticket(0);
  const Status started = world_.WithTransport([&] {
    ticket = start();
    return ticket.status();
  });
  if (!started.ok()) return world_.Fail(started.With(Doing(peer)));
  return ticket;
}

Status Turn::Poll() {
  return world_.WithTransport([&] { return state_.messages.Poll(); });
}

Status Turn::Await(Messages::Ticket ticket) {
  return Await(state_.messages.peer_of(ticket), nullptr,
               [&] { return state_.messages.IsOver(ticket); });
}

Status Turn::AwaitCounter(uint32_t peer, SharedCounter ChannelBoard::*counter, uint32_t value) {
  SharedCounter& theirs = BoardOf(peer).*counter;
  return Await(peer, &theirs,
               [&] { return AtLeast(theirs.value.load(std::memory_order_seq_cst), value); });
}

Status Turn::AwaitConsumed(uint64_t end) {
  const RankMap& ranks = world_.ranks();
  for (uint32_t local = 0; local < ranks.local_size(); ++local) {
    if (local == ranks.local_rank()) continue;
    STRATA_RETURN_IF_ERROR(AwaitCounter(ranks.first_of(ranks.node()) + local,
                                        &ChannelBoard::consumed,
                                        state_.rows_done + static_cast<uint32_t>(end)));
  }
  return OkStatus();
}

Status Turn::Await(uint32_t peer, SharedCounter* counter, const std::function<bool()>& done) {
  for (int spin = 0; spin < kSpins; ++spin) {
    if (done()) return OkStatus();
    Pause();
  }
  own().waiting_for.store(peer + 1, std::memory_order_release);
  const Clock::time_point begin = Clock::now();
  Clock::time_point next_look = begin + kLongestSleep;
  Patience patience{.next_question = begin + world_.deadline() / kLooksPerDeadline};
  while (true) {
    const uint32_t value = counter == nullptr ? 0 : counter->value.load(std::memory_order_seq_cst);
    if (state_.messages.any()) {
      const Status polled = Poll();
      if (!polled.ok()) return MessagesFailed(polled.With(Doing(peer)));
    }
    if (done()) break;
    if (const Clock::time_point now = Clock::now(); now >= next_look) {
      next_look = now + kLongestSleep;
      STRATA_RETURN_IF_ERROR(CheckNeighbour());
      STRATA_RETURN_IF_ERROR(world_.Check([&] { return Doing(peer); }));
      // It does all that we wait for before it leaves, perhaps since we looked.
      const bool has_left = HasLeft(peer);
      if (done()) break;
      if (has_left) return world_.Fail(Unavailable(Doing(peer) + ", which has left the job"));
      STRATA_RETURN_IF_ERROR(Late(peer, &patience, done));
    }
    if (counter == nullptr || state_.messages.any()) {
      PauseBetweenPolls();
    } else {
      SleepOn(world_.BoardOf(peer), *counter, value, kLongestSleep);
    }
  }
  own().waiting_for.store(0, std::memory_order_release);
  world_.CountWait();
  return OkStatus();
}

// A message that is not what was expected has a cause, and the rank that knows it tells it soon.
Status Turn::MessagesFailed(const Status& how) {
  for (Clock::time_point end = Clock::now() + kTimeToTell; Clock::now() < end;) {
    static_cast<void>(Poll().ok());  // the neighbour's announcement may yet come
    STRATA_RETURN_IF_ERROR(CheckNeighbour());
    STRATA_RETURN_IF_ERROR(world_.Check([&] { return how.message(); }));
    PauseBetweenPolls();
  }
  return world_.Fail(how);
}

Status Turn::LookAt(uint32_t peer) {
  const uint32_t local = peer - world_.ranks().first_of(world_.ranks().node());
  if (seen_[local]) return OkStatus();
  STRATA_RETURN_IF_ERROR(AwaitCounter(peer, &ChannelBoard::begun, state_.number));
  seen_[local] = true;
  const Announcement& theirs = BoardOf(peer).announcements[state_.number % 2];
  if (theirs.Matches(mine_)) return OkStatus();
  return world_.Fail(Internal(fmt::format(
      "{}: collective {}: rank {} calls {}, rank {} calls {}: ranks must run the same program with "
      "the same configuration",
      ChannelName(state_.id), state_.number, world_.ranks().rank(), ShownFully(mine_), peer,
      ShownFully(theirs))));
}

// The first ranks of the nodes, in a ring.
Status Turn::ExchangeAnnouncements() {
  const RankMap& ranks = world_.ranks();
  const uint32_t nodes = ranks.num_nodes();
  const uint32_t next = ranks.first_of((ranks.node() + 1) % nodes);
  const uint32_t before = ranks.first_of((ranks.node() + nodes - 1) % nodes);
  const Result<Messages::Ticket> sent = Start(next, [&] {
    return state_.messages.Send(next, MessageTag::kAnnouncement,
                                std::as_bytes(std::span(&mine_, 1)));
  });
  if (!sent.ok()) return sent.status();
  STRATA_ASSIGN_OR_RETURN(neighbour_, Start(before, [&] {
                            return state_.messages.Receive(
                                before, MessageTag::kAnnouncement,
                                std::as_writable_bytes(std::span(&neighbours_, 1)));
                          }));
  return OkStatus();
}

Status Turn::CheckNeighbour() {
  if (!neighbour_ || !state_.messages.IsOver(*neighbour_)) return OkStatus();
  neighbour_.reset();
  if (neighbours_.Matches(mine_)) return OkStatus();
  const RankMap& ranks = world_.ranks();
  const uint32_t before =
      ranks.first_of((ranks.node() + ranks.num_nodes() - 1) % ranks.num_nodes());
  return world_.Fail(Internal(fmt::format(
      "{}: collective {}: rank {} calls {}, rank {} calls {}: ranks must run the same program with "
      "the same configuration",
      ChannelName(state_.id), state_.number, ranks.rank(), ShownFully(mine_), before,
      ShownFully(neighbours_))));
}

bool Turn::HasLeft(uint32_t peer) {
  return world_.ranks().is_local(peer) &&
         world_.BoardOf(peer).has_left.load(std::memory_order_acquire);
}

Status Turn::Late(uint32_t peer, Patience* patience, const std::function<bool()>& done) {
  const milliseconds deadline = world_.deadline();
  if (deadline.count() == 0 || Clock::now() < patience->next_question) return OkStatus();
  STRATA_ASSIGN_OR_RETURN(const World::Culprit found, world_.FindCulprit(peer, state_.id));
  if (done()) return OkStatus();
  const Clock::time_point now = Clock::now();
  // A job that was stopped for an hour and goes on has not waited for an hour.
  const Clock::duration at_most = 2 * deadline / kLooksPerDeadline + kTimeToTell;
  patience->waited += std::min<Clock::duration>(now - patience->last_look, at_most);
  if (patience->culprit != found) patience->waited = {};
  patience->culprit = found;
  patience->last_look = now;
  patience->next_question = now + deadline / kLooksPerDeadline;
  if (patience->waited < deadline + deadline / kGracesPerDeadline) return OkStatus();
  return world_.Fail(
      Status(Code::kDeadlineExceeded, DescribeLate(peer, found.rank, patience->waited)));
}

std::string Turn::DescribeLate(uint32_t peer, uint32_t culprit, Clock::duration waited) {
  const RankMap& ranks = world_.ranks();
  std::string text = fmt::format("{}: no progress for {:.1f} s", Doing(peer),
                                 std::chrono::duration<double>(waited).count());
  if (culprit != peer) text += fmt::format(", as it waits for {}", world_.Describe(culprit));
  if (ranks.is_local(culprit)) {
    const uint32_t begun = BoardOf(culprit).begun.value.load(std::memory_order_acquire);
    text +=
        AtLeast(begun, state_.number)
            ? fmt::format(", which stays in {}", ShownPayload(mine_))
            : fmt::format(", which has not come; its last on this channel was number {}", begun);
  } else {
    text += ", which does not answer or has not come";
  }
  return text;
}

std::string Turn::Doing(uint32_t peer) const {
  return fmt::format("{}: {}: rank {} waits for {}", ChannelName(state_.id), ShownPayload(mine_),
                     world_.ranks().rank(), world_.Describe(peer));
}

}  // namespace strata::engine
