#include "aio/bench/internal/request_window.h"

#include <vector>

#include "aio/base/check.h"

namespace strata::aio {
namespace {

constexpr std::chrono::milliseconds kBetweenStopChecks(50);
constexpr std::chrono::minutes kPatience(2);

Status Stopped() { return Status(Code::kCancelled, "stopped"); }

// A ticket that is still valid after Wait is still in flight.
Status WaitFor(IoTicket& ticket, const StopCheck& stop) {
  auto begin = std::chrono::steady_clock::now();
  while (true) {
    Status ended = ticket.Wait(kBetweenStopChecks);
    if (!ticket.valid()) return ended;
    if (ShouldStop(stop)) return Stopped();
    if (std::chrono::steady_clock::now() - begin > kPatience) return ended;
  }
}

// The ring of slots that are in flight, oldest first.
class Window {
 public:
  explicit Window(const WindowOptions& options) {
    STRATA_CHECK(options.num_slots > 0);
    STRATA_CHECK(options.num_slots * options.slot_bytes <= options.memory.size());
    for (size_t i = 0; i < options.num_slots; ++i)
      slots_.push_back({.memory = options.memory.subspan(i * options.slot_bytes,  //
                                                         options.slot_bytes)});
  }

  void Start(const StartSlot& start) {
    while (!exhausted_ && in_flight_ < slots_.size()) {
      exhausted_ = !start(slots_[(oldest_ + in_flight_) % slots_.size()]);
      if (!exhausted_) ++in_flight_;
    }
  }

  Status FinishOldest(const FinishSlot& finish, const StopCheck& stop) {
    WindowSlot& slot = slots_[oldest_];
    STRATA_RETURN_IF_ERROR(WaitFor(slot.ticket, stop));
    oldest_ = (oldest_ + 1) % slots_.size();
    --in_flight_;
    return finish(slot);
  }

  void CancelAll() {
    for (WindowSlot& slot : slots_) {
      if (slot.ticket.valid()) slot.ticket.Cancel();
    }
    for (WindowSlot& slot : slots_) slot.ticket = {};  // waits
  }

  size_t in_flight() const { return in_flight_; }

 private:
  std::vector<WindowSlot> slots_;
  size_t oldest_ = 0;
  size_t in_flight_ = 0;
  bool exhausted_ = false;
};

}  // namespace

Status RunWindow(const WindowOptions& options, const StartSlot& start, const FinishSlot& finish,
                 const StopCheck& stop) {
  Window window(options);
  window.Start(start);
  while (window.in_flight() > 0) {
    Status status = ShouldStop(stop) ? Stopped() : window.FinishOldest(finish, stop);
    if (!status.ok()) {
      window.CancelAll();
      return status;
    }
    window.Start(start);
  }
  return OkStatus();
}

}  // namespace strata::aio
