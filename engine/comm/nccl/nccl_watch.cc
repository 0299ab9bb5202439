#include "engine/comm/nccl/nccl_watch.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "aio/base/start_thread.h"
#include "tiering/cuda_status.h"

namespace strata::engine {
namespace {

using std::chrono::milliseconds;

// Ends are seen so late at most; nobody waits for that.
constexpr milliseconds kPause(5);
// A rank that ends tells why, or is seen to end, a moment after NCCL has lost it.
constexpr milliseconds kTimeToTell(500);
constexpr int kLooksPerDeadline = 8;
// A rank that stands still says so itself; those who wait for it in host memory say it after 1.25
// times the deadline. Both know better than this watch what they are at.
constexpr double kDeadlines = 1.5;

bool IsAtLeast(std::chrono::steady_clock::duration waited, milliseconds deadline) {
  return std::chrono::duration<double>(waited) >=
         kDeadlines * std::chrono::duration<double>(deadline);
}

}  // namespace

Result<std::unique_ptr<NcclWatch>> NcclWatch::Start(World* world, NcclComm* comm, Flights* flights,
                                                    int device) {
  std::unique_ptr<NcclWatch> watch(new NcclWatch(world, comm, flights));
  STRATA_ASSIGN_OR_RETURN(watch->thread_,
                          StartThread("the watch of the GPU's collectives",
                                      [self = watch.get(), device] { self->Work(device); }));
  return watch;
}

NcclWatch::~NcclWatch() {
  {
    std::lock_guard lock(mutex_);
    quit_ = true;
  }
  quits_.notify_all();
}

void NcclWatch::Work(int device) {
  Status status =
      tiering::CudaStatus(cudaSetDevice(device), "choose the GPU for its collectives' watch");
  std::unique_lock lock(mutex_);
  while (status.ok()) {
    if (quits_.wait_for(lock, kPause, [&] { return quit_; })) return;
    lock.unlock();
    status = Look();
    lock.lock();
  }
  lock.unlock();
  // The others first: ending what is on the GPU may take its time.
  static_cast<void>(world_.Fail(status).ok());
  comm_.Abort();
}

Status NcclWatch::Look() {
  STRATA_RETURN_IF_ERROR(world_.Check([&] { return DoingNow(); }));
  STRATA_RETURN_IF_ERROR(CheckNccl());
  STRATA_RETURN_IF_ERROR(flights_.Look());
  GpuBoard& own = world_.memory().own_board().gpu;
  own.arrived.store(flights_.num_started(), std::memory_order_release);
  const std::optional<Announcement> waiting = flights_.waiting();
  if (!waiting) return OkStatus();
  STRATA_RETURN_IF_ERROR(CheckPeers(*waiting));
  return CheckPatience(*waiting);
}

Status NcclWatch::CheckNccl() {
  const Status error = comm_.AsyncError();
  if (error.ok()) return OkStatus();
  const Clock::time_point end = Clock::now() + kTimeToTell;
  while (Clock::now() < end) {
    STRATA_RETURN_IF_ERROR(world_.Check([&] { return DoingNow(); }));
    std::this_thread::sleep_for(kPause);
  }
  return error.With(DoingNow());
}

// Of this node, those that have enqueued the same collective: is it the same?
Status NcclWatch::CheckPeers(const Announcement& announcement) {
  const auto of = [&](uint32_t rank) -> std::optional<Announcement> {
    const GpuBoard::Kept& kept =
        world_.BoardOf(rank).gpu.kept[announcement.number % GpuBoard::kNumKept];
    if (kept.number.load(std::memory_order_acquire) != announcement.number) return std::nullopt;
    const uint64_t what = kept.what.load(std::memory_order_acquire);
    Announcement theirs{.number = announcement.number,
                        .collective = static_cast<Collective>(what & 0xff),
                        .dtype = static_cast<DType>(what >> 8 & 0xff),
                        .root = static_cast<uint32_t>(what >> 32),
                        .size_bytes = kept.size_bytes.load(std::memory_order_acquire)};
    if (kept.number.load(std::memory_order_relaxed) != announcement.number) return std::nullopt;
    return theirs;
  };
  const RankMap& ranks = world_.ranks();
  for (uint32_t local = 0; local < ranks.local_size(); ++local) {
    const uint32_t rank = ranks.first_of(ranks.node()) + local;
    const std::optional<Announcement> theirs = of(rank);
    if (!theirs || theirs->Matches(announcement)) continue;
    return Internal(fmt::format(
        "{}: collective {} on the GPU: rank {} calls {}, rank {} calls {}: ranks must run the same "
        "program with the same configuration",
        ChannelName(ChannelId::kCommLane), announcement.number, ranks.rank(),
        ShownFully(announcement), rank, ShownFully(*theirs)));
  }
  return OkStatus();
}

Status NcclWatch::CheckPatience(const Announcement& announcement) {
  const milliseconds deadline = world_.deadline();
  const Clock::time_point now = Clock::now();
  if (patience_.number != announcement.number) {
    patience_ = {.number = announcement.number,
                 .next_look = now + deadline / kLooksPerDeadline,
                 .last_look = now};
  }
  if (deadline.count() == 0 || now < patience_.next_look) return OkStatus();
  STRATA_ASSIGN_OR_RETURN(const std::vector<Answer> answers, world_.AskAll(ChannelId::kCommLane));
  const auto late = std::find_if(answers.begin(), answers.end(), [&](const Answer& answer) {
    return answer.arrived < announcement.number;
  });
  std::optional<uint32_t> rank;
  if (late != answers.end()) rank = static_cast<uint32_t>(late - answers.begin());
  const uint64_t progress = rank ? late->progress : 0;
  // A job that was stopped for an hour and goes on has not waited for an hour.
  const Clock::duration at_most = 2 * deadline / kLooksPerDeadline + kTimeToTell;
  patience_.waited += std::min<Clock::duration>(Clock::now() - patience_.last_look, at_most);
  if (patience_.rank != rank || patience_.progress != progress) patience_.waited = {};
  patience_.rank = rank;
  patience_.progress = progress;
  patience_.last_look = Clock::now();
  patience_.next_look = patience_.last_look + deadline / kLooksPerDeadline;
  if (!IsAtLeast(patience_.waited, deadline)) return OkStatus();
  return Late(announcement, patience_);
}

Status NcclWatch::Late(const Announcement& announcement, const Patience& patience) {
  const std::string doing = Doing(world_, announcement);
  const double waited_s = std::chrono::duration<double>(patience.waited).count();
  if (!patience.rank) {
    return Status(
        Code::kDeadlineExceeded,
        fmt::format("{}: all ranks have come, and NCCL has not finished it in {:.1f} s: NCCL_DEBUG="
                    "INFO shows what it does; look at the network and the GPUs' links",
                    doing, waited_s));
  }
  return Status(Code::kDeadlineExceeded,
                fmt::format("{} waits for {}: no progress for {:.1f} s, which has not come", doing,
                            world_.Describe(*patience.rank), waited_s));
}

std::string NcclWatch::Doing(const World& world, const Announcement& announcement) {
  return fmt::format("{}: {} on the GPU: rank {}", ChannelName(ChannelId::kCommLane),
                     ShownPayload(announcement), world.ranks().rank());
}

std::string NcclWatch::DoingNow() const {
  const std::optional<Announcement> waiting = flights_.waiting();
  if (waiting) return Doing(world_, *waiting);
  return fmt::format("{}: between collectives on the GPU: rank {}",
                     ChannelName(ChannelId::kCommLane), world_.ranks().rank());
}

}  // namespace strata::engine
