#include <fmt/format.h>

#include <array>
#include <optional>

#include "aio/base/units.h"
#include "prefetch/compile.h"
#include "prefetch/simulate.h"

namespace strata::prefetch {
namespace {

constexpr std::array<uint32_t, 10> kDepths = {0, 1, 2, 3, 4, 6, 8, 12, 16, 24};
constexpr std::array<uint64_t, 5> kKeptSixteenths = {2, 4, 6, 8, 11};  // of host memory

Status NameSmallest(const Trace& trace, const Budgets& budgets, const Status& failure) {
  if (failure.code() != Code::kResourceExhausted) return failure;
  Result<Budgets> smallest = SmallestBudgets(trace, budgets);
  if (!smallest.ok()) return failure;
  return ResourceExhausted(fmt::format("{}; the smallest budgets that fit are device {}, host {}",
                                       failure.message(), FormatBytes(smallest->device_bytes),
                                       FormatBytes(smallest->host_bytes)));
}

// Keeps the fastest of the plans it is shown.
class Contest {
 public:
  Contest(const Trace& trace, const Budgets& budgets, const Hardware& hardware)
      : trace_(trace), budgets_(budgets), hardware_(hardware) {}

  Status Try(uint32_t prefetch_ops, uint64_t kept_host_bytes) {
    CompileOptions options{
        .budgets = budgets_, .prefetch_ops = prefetch_ops, .kept_host_bytes = kept_host_bytes};
    STRATA_ASSIGN_OR_RETURN(StepPlan plan, Compile(trace_, options));
    double step_s = Simulate(plan, hardware_).step_s;
    if (best_ && step_s >= best_step_s_) return OkStatus();
    best_ = std::move(plan);
    best_step_s_ = step_s;
    best_options_ = options;
    return OkStatus();
  }

  const CompileOptions& best_options() const { return best_options_; }
  bool BestReadsNvme() const {
    return TrafficOf(*best_).bytes_by_lane[static_cast<size_t>(Lane::kNvmeRead)] > 0;
  }
  StepPlan TakeBest() && { return std::move(*best_); }

 private:
  const Trace& trace_;
  const Budgets& budgets_;
  const Hardware& hardware_;
  std::optional<StepPlan> best_;
  CompileOptions best_options_;
  double best_step_s_ = 0;
};

// One knob after the other: they hardly depend on each other.
Status TryAll(uint64_t host_bytes, Contest* contest) {
  for (uint32_t depth : kDepths) STRATA_RETURN_IF_ERROR(contest->Try(depth, 0));
  uint32_t best_depth = contest->best_options().prefetch_ops;
  if (!contest->BestReadsNvme()) return OkStatus();  // everything has its place already
  for (uint64_t sixteenths : kKeptSixteenths)
    STRATA_RETURN_IF_ERROR(contest->Try(best_depth, host_bytes / 16 * sixteenths));
  return OkStatus();
}

}  // namespace

Result<StepPlan> CompileBest(const Trace& trace, const Budgets& budgets, const Hardware& hardware) {
  Contest contest(trace, budgets, hardware);
  Status status = TryAll(budgets.host_bytes, &contest);
  if (!status.ok()) return NameSmallest(trace, budgets, status);
  return std::move(contest).TakeBest();
}

}  // namespace strata::prefetch
