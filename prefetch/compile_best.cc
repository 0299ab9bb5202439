#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <thread>
#include <utility>
#include <vector>

#include "aio/base/start_thread.h"
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
  Contest(const Trace& trace, const Hardware& hardware) : trace_(trace), hardware_(hardware) {}

  // Side by side, as far as the machine has cores; what comes of it does not depend on that.
  Status TryEach(const std::vector<CompileOptions>& options) {
    std::vector<Entry> entries(options.size());
    std::vector<Status> statuses(options.size());
    std::atomic<size_t> next = 0;
    auto work = [&] {
      for (size_t i = next++; i < options.size(); i = next++)
        statuses[i] = Try(options[i], &entries[i]);
    };
    {
      std::vector<std::jthread> others;
      const size_t cores = std::max(1u, std::thread::hardware_concurrency());
      while (others.size() + 1 < std::min(cores, options.size())) {
        Result<std::jthread> other = StartThread("a thread that plans", work);
        if (!other.ok()) break;  // the others do its part
        others.push_back(std::move(other).value());
      }
      work();
    }
    for (const Status& status : statuses) STRATA_RETURN_IF_ERROR(status);
    entries_.insert(entries_.end(), entries.begin(), entries.end());
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

  Status Try(const CompileOptions& options, Entry* entry) const {
    entry->options = options;
    STRATA_ASSIGN_OR_RETURN(StepPlan plan, Compile(trace_, options));
    entry->score = ScoreOf(plan, hardware_);
    return OkStatus();
  }

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
  const Hardware& hardware_;
  std::vector<Entry> entries_;
};

// One knob after the other: they hardly depend on each other. The plan that asks for least comes
// first, alone: if that does not fit, none does.
Status TryAll(const Budgets& budgets, Contest* contest) {
  auto with = [&](uint32_t prefetch_ops, uint64_t kept_host_bytes) {
    return CompileOptions{
        .budgets = budgets, .prefetch_ops = prefetch_ops, .kept_host_bytes = kept_host_bytes};
  };
  STRATA_RETURN_IF_ERROR(contest->TryEach({with(kDepths.front(), 0)}));
  std::vector<CompileOptions> depths;
  for (size_t i = 1; i < kDepths.size(); ++i) depths.push_back(with(kDepths[i], 0));
  STRATA_RETURN_IF_ERROR(contest->TryEach(depths));
  const uint32_t best_depth = contest->best_options().prefetch_ops;
  if (!contest->BestReadsNvme()) return OkStatus();  // everything has its place already
  std::vector<CompileOptions> kept;
  for (uint64_t sixteenths : kKeptSixteenths)
    kept.push_back(with(best_depth, budgets.host_bytes / 16 * sixteenths));
  return contest->TryEach(kept);
}

}  // namespace

Result<StepPlan> CompileBest(const Trace& trace, const Budgets& budgets, const Hardware& hardware) {
  Contest contest(trace, hardware);
  Status status = TryAll(budgets, &contest);
  if (!status.ok()) return status;
  return Compile(trace, contest.best_options());
}

}  // namespace strata::prefetch
