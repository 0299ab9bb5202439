// An observer that the watchdog knows of: what it is told is progress, and for as long as it takes
// to show that, nothing else can get on. Who stops the output of a run, stops the run, and that is
// no fault.
#pragma once

#include <string>

#include "engine/train/session.h"
#include "engine/train/watchdog.h"

namespace strata::engine {

class WatchedObserver final : public SessionObserver {
 public:
  explicit WatchedObserver(SessionObserver& observer) : observer_(observer) {}
  // Before it is told anything.
  void SetWatchdog(Watchdog* watchdog) { watchdog_ = watchdog; }

  void OnProgress(const std::string& what, uint64_t done_bytes, uint64_t total_bytes) override {
    const Watchdog::Scope scope(watchdog_, Output());
    observer_.OnProgress(what, done_bytes, total_bytes);
  }
  void OnPlanned(const PlannedRun& run) override {
    const Watchdog::Scope scope(watchdog_, Output());
    observer_.OnPlanned(run);
  }
  void OnStarted(uint64_t first_step, const std::string& where_from) override {
    const Watchdog::Scope scope(watchdog_, Output());
    observer_.OnStarted(first_step, where_from);
  }
  void OnStep(const StepReport& report) override {
    const Watchdog::Scope scope(watchdog_, Output());
    observer_.OnStep(report);
  }

 private:
  static Watchdog::Subject Output() { return MayTakeLong("the output"); }

  SessionObserver& observer_;
  Watchdog* watchdog_ = nullptr;
};

}  // namespace strata::engine
