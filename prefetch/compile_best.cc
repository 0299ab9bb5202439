#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "aio/base/units.h"
#include "prefetch/compile.h"
#include "prefetch/simulate.h"

namespace strata::prefetch {
namespace {

constexpr std::array<uint32_t, 10> kDepths = {0, 1, 2, 3, 4, 6, 8, 12, 16, 24};
// Simulated times closer than this are equal: the model is no better than that.
constexpr double kSameTime = 0.02;
constexpr double kSameBytes = 0.001;
// A plan that fetches less far ahead stalls whenever a transfer takes longer than the model says.
constexpr uint32_t kSafeDepth = 2;
constexpr std::array<uint64_t, 5> kKeptSixteenths = {2, 4, 6, 8, 11};  // of host memory

Status NameSmallest(const Trace& trace, const Budgets& budgets, const Status& failure) {
  if (failure.code() != Code::kResourceExhausted) return failure;
  Result<Budgets> smallest = SmallestBudgets(trace, budgets);
  if (!smallest.ok()) return failure;
  return ResourceExhausted(fmt::format("{}; the smallest budgets that fit are device {}, host {}",
                                       failure.message(), FormatBytes(smallest->device_bytes),
                                       FormatBytes(smallest->host_bytes)));
}

// What is wanted of a plan: first time, then that it fetches ahead, then few bytes written, which
// wear the drive, then few read.
struct Score {
  double step_s = 0;
  uint32_t safe_ops = 0;  // how far it fetches ahead, up to where it is safe
  double nvme_bytes_written = 0;
  double nvme_bytes_read = 0;
};

Score ScoreOf(const StepPlan& plan, const Hardware& hardware) {
  Traffic traffic = TrafficOf(plan);
  auto bytes = [&](Lane lane) {
    return static_cast<double>(traffic.bytes_by_lane[static_cast<size_t>(lane)]);
  };
  return {.step_s = Simulate(plan, hardware).step_s,
          .safe_ops = std::min(plan.prefetch_ops, kSafeDepth),
          .nvme_bytes_written = bytes(Lane::kNvmeWrite),
          .nvme_bytes_read = bytes(Lane::kNvmeRead)};
}

// Of two plans that take about the same time.
bool IsBetter(const Score& a, const Score& b) {
  if (a.safe_ops != b.safe_ops) return a.safe_ops > b.safe_ops;
  double written = a.nvme_bytes_written - b.nvme_bytes_written;
  if (std::abs(written) > kSameBytes * b.nvme_bytes_written) return written < 0;
  return a.nvme_bytes_read < b.nvme_bytes_read;
}

// Compiles and simulates what it is told to; remembers scores, not plans, which are large.
class Contest {
 public:
  Contest(const Trace& trace, const Budgets& budgets, const Hardware& hardware)
      : trace_(trace), budgets_(budgets), hardware_(hardware) {}

  Status Try(uint32_t prefetch_ops, uint64_t kept_host_bytes) {
    Entry entry{.options = {.budgets = budgets_,
                            .prefetch_ops = prefetch_ops,
                            .kept_host_bytes = kept_host_bytes}};
    STRATA_ASSIGN_OR_RETURN(StepPlan plan, Compile(trace_, entry.options));
    entry.score = ScoreOf(plan, hardware_);
    entries_.push_back(entry);
    return OkStatus();
  }

  // The best of those that are about as fast as the fastest. So one that does not fetch ahead wins
  // only where all others are slower by more than the model's error.
  const CompileOptions& best_options() const { return Best().options; }
  bool BestReadsNvme() const { return Best().score.nvme_bytes_read > 0; }

 private:
  struct Entry {
    CompileOptions options = {};
    Score score = {};
  };

  const Entry& Best() const {
    auto by_time = [](const Entry& a, const Entry& b) { return a.score.step_s < b.score.step_s; };
    double fastest_s = std::ranges::min_element(entries_, by_time)->score.step_s;
    const Entry* best = nullptr;
    for (const Entry& entry : entries_) {
      if (entry.score.step_s > fastest_s * (1 + kSameTime)) continue;
      if (best == nullptr || IsBetter(entry.score, best->score)) best = &entry;
    }
    return *best;
  }

  const Trace& trace_;
  const Budgets& budgets_;
  const Hardware& hardware_;
  std::vector<Entry> entries_;
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
  return Compile(trace, contest.best_options());
}

}  // namespace strata::prefetch
