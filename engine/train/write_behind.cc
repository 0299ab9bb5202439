#include "engine/train/write_behind.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "aio/base/check.h"
#include "aio/base/start_thread.h"

namespace strata::engine {
namespace {

// Enough to keep a drive busy with blocks of megabytes, and not in the way of a wanted one for
// long.
constexpr size_t kWritesInFlight = 4;

using Clock = std::chrono::steady_clock;

}  // namespace

Result<std::unique_ptr<WriteBehind>> WriteBehind::Create(const StateLayout& layout,
                                                         const prefetch::Trace& trace,
                                                         StateAccess& state) {
  std::unique_ptr<WriteBehind> behind(new WriteBehind(layout, trace, state));
  if (behind->order_.empty()) return behind;
  STRATA_ASSIGN_OR_RETURN(behind->thread_, StartThread("a thread that writes checkpoints",
                                                       [self = behind.get()] { self->Work(); }));
  return behind;
}

WriteBehind::WriteBehind(const StateLayout& layout, const prefetch::Trace& trace,
                         StateAccess& state)
    : layout_(layout),
      state_(state),
      to_be_written_(layout.blocks.size()),
      is_taken_(layout.blocks.size()) {
  std::vector<bool> is_in_order(layout.blocks.size());
  auto append = [&](prefetch::BlockId block) {
    if (!IsStateInMemory(block) || is_in_order[Index(block)]) return;
    is_in_order[Index(block)] = true;
    order_.push_back(static_cast<uint32_t>(block));
  };
  for (const prefetch::TraceOp& op : trace.ops)
    for (const prefetch::Access& access : op.accesses)
      if (access.mode != prefetch::AccessMode::kRead) append(access.block);
  for (size_t block = 0; block < layout.blocks.size(); ++block) append(prefetch::BlockId(block));
}

WriteBehind::~WriteBehind() {
  std::lock_guard lock(mutex_);
  STRATA_CHECK(commit_ == nullptr);
  quit_ = true;
  changed_.notify_all();
}

bool WriteBehind::IsStateInMemory(prefetch::BlockId block) const {
  return Index(block) < layout_.blocks.size() &&
         layout_.blocks[Index(block)].home != tiering::Tier::kNvme;
}

void WriteBehind::Start(tiering::PendingCommit* commit) {
  if (order_.empty()) return;
  std::lock_guard lock(mutex_);
  STRATA_CHECK(commit_ == nullptr);
  commit_ = commit;
  status_ = OkStatus();
  is_taken_.assign(layout_.blocks.size(), false);
  for (uint32_t block : order_) to_be_written_[block] = true;
  is_writing_ = true;
  changed_.notify_all();
}

Status WriteBehind::Finish() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return commit_ == nullptr; });
  is_writing_ = false;
  to_be_written_.assign(layout_.blocks.size(), false);
  return std::exchange(status_, OkStatus());
}

bool WriteBehind::IsToBeWritten(const prefetch::TraceOp& op) const {
  return std::ranges::any_of(op.accesses, [&](const prefetch::Access& access) {
    return access.mode != prefetch::AccessMode::kRead && IsStateInMemory(access.block) &&
           to_be_written_[Index(access.block)];
  });
}

Status WriteBehind::AwaitWritable(const prefetch::TraceOp& op) {
  if (!is_writing_) return OkStatus();
  std::unique_lock lock(mutex_);
  if (!IsToBeWritten(op)) return OkStatus();
  for (const prefetch::Access& access : op.accesses)
    if (IsStateInMemory(access.block)) wanted_.push_back(static_cast<uint32_t>(access.block));
  Clock::time_point begin = Clock::now();
  changed_.wait(lock, [&] { return !status_.ok() || !IsToBeWritten(op); });
  waited_s_ += std::chrono::duration<double>(Clock::now() - begin).count();
  return status_.With("the checkpoint before this step was to be written first");
}

double WriteBehind::TakeWaitedSeconds() {
  std::lock_guard lock(mutex_);
  return std::exchange(waited_s_, 0.0);
}

void WriteBehind::Work() {
  while (true) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return quit_ || commit_ != nullptr; });
    if (quit_) return;
    lock.unlock();
    WriteAll();
  }
}

void WriteBehind::WriteAll() {
  std::deque<InFlight> window;
  Status status;
  while (status.ok()) {
    std::optional<uint32_t> block = NextBlock();
    if (!block && window.empty()) break;
    if (!block || window.size() == kWritesInFlight) status = FinishOldest(window);
    if (block && status.ok()) status = Write(*block, window);
  }
  while (!window.empty()) {
    Status finished = FinishOldest(window);
    if (status.ok()) status = finished;
  }
  End(status);
}

// What somebody waits for first.
std::optional<uint32_t> WriteBehind::NextBlock() {
  std::lock_guard lock(mutex_);
  auto is_next = [&](uint32_t block) { return to_be_written_[block] && !is_taken_[block]; };
  std::optional<uint32_t> next;
  while (!next && !wanted_.empty()) {
    if (is_next(wanted_.front())) next = wanted_.front();
    wanted_.pop_front();
  }
  if (auto found = std::ranges::find_if(order_, is_next); !next && found != order_.end())
    next = *found;
  if (next) is_taken_[*next] = true;
  return next;
}

Status WriteBehind::Write(uint32_t block, std::deque<InFlight>& window) {
  STRATA_ASSIGN_OR_RETURN(std::span<const std::byte> content, state_.Outgoing(block));
  tiering::StoreTicket ticket = commit_->StartWrite(tiering::StoreBlock(block), content);
  if (layout_.blocks[block].home == tiering::Tier::kHost) {
    window.push_back({.block = block, .ticket = std::move(ticket)});
    return OkStatus();
  }
  Done(block);             // it is in the staging,
  return ticket.Finish();  // which the next one needs
}

Status WriteBehind::FinishOldest(std::deque<InFlight>& window) {
  InFlight oldest = std::move(window.front());
  window.pop_front();
  STRATA_RETURN_IF_ERROR(oldest.ticket.Finish());
  Done(oldest.block);
  return OkStatus();
}

void WriteBehind::Done(uint32_t block) {
  std::lock_guard lock(mutex_);
  to_be_written_[block] = false;
  changed_.notify_all();
}

// What could not be written stays marked: nobody may overwrite it and go on.
void WriteBehind::End(const Status& status) {
  std::lock_guard lock(mutex_);
  status_ = status;
  wanted_.clear();
  if (status.ok()) is_writing_ = false;
  commit_ = nullptr;
  changed_.notify_all();
}

}  // namespace strata::engine
