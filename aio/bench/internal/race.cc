#include "aio/bench/internal/race.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "aio/bench/internal/selection.h"

namespace strata::aio::bench_internal {
namespace {

using Seconds = Race::Seconds;

// Chosen with simulated disks, as those of selection.cc.
constexpr double kCoarseShare = 0.3;     // of the passes
constexpr double kShareOfTheEnd = 0.3;   // of the budget, for the winner and those who contest it
constexpr size_t kLeastPasses = 24;      // with fewer the search is a lottery,
constexpr size_t kLeastRoundsOfFew = 4;  // unless there is little to choose from

// Some 100 passes or, where time allows, three of every candidate. A tenth of a second shows little
// more than the ramp; more than one second is better spent on coming back later.
Seconds SampleFor(const TuneOptions& options) {
  double num_traffics = static_cast<double>(options.traffics.size());
  double num_candidates = static_cast<double>(options.candidates.size());
  double of_100_passes = options.budget.count() / (100 * num_traffics);
  double of_three_each = options.budget.count() / (3 * num_candidates * num_traffics);
  double sample =
      of_100_passes < 0.2 ? of_100_passes : std::max(0.2, std::min(of_100_passes, of_three_each));
  return Seconds(std::clamp(sample, 0.1, 1.0));
}

}  // namespace

Race::Race(const TuneOptions& options, const MeasureSetting& measure,
           const TuneProgressCallback& progress, const TuneCancelCheck& cancelled)
    : options_(options),
      measure_(measure),
      progress_(progress),
      cancel_check_(cancelled),
      lattice_(options.candidates),
      board_(options.traffics, options.candidates.size()),
      runs_(options.candidates.size()),
      random_(options.seed),
      start_(options.now()),
      sample_(SampleFor(options)),
      pass_(sample_ * static_cast<double>(options.traffics.size())) {}

Status Race::Go() {
  STRATA_RETURN_IF_ERROR(CheckBudget());
  STRATA_RETURN_IF_ERROR(WarmUp());
  if (is_cancelled_) return OkStatus();
  STRATA_RETURN_IF_ERROR(CheckBudget());
  double share = kCoarseShare * static_cast<double>(PassesLeft());
  MeasureRound(lattice_.Coarse(std::max<size_t>(kSmallestPool, static_cast<size_t>(share))));
  while (!StopsNow()) {
    std::vector<size_t> pool = NextPool();
    if (pool.empty()) return FirstFailure();
    MeasureRound(std::move(pool));
  }
  board_.Update();
  return OkStatus();
}

// One pass that counts for nothing: it shows how long a pass takes, and the first touch of files
// and memory is not held against anybody.
Status Race::WarmUp() {
  std::vector<size_t> order = lattice_.Coarse(1);
  for (size_t i = 0; i < lattice_.size(); ++i) order.push_back(i);
  for (size_t candidate : order) {
    if (runs_[candidate].failed) continue;
    Seconds before = used();
    bool passed = MeasurePass(candidate).ok();
    if (is_cancelled_) return OkStatus();
    if (passed) {
      pass_ = std::max(pass_, used() - before);
      return OkStatus();
    }
  }
  return FirstFailure();
}

Status Race::FirstFailure() const {
  for (size_t i = 0; i < runs_.size(); ++i)
    if (runs_[i].failed)
      return runs_[i].failed->With("none of the settings works: " +
                                   DescribeSetting(options_.candidates[i]));
  return Internal("tune: no setting was measured");
}

Status Race::CheckBudget() const {
  size_t wanted = std::min(kLeastPasses, kLeastRoundsOfFew * options_.candidates.size());
  if (PassesLeft() >= wanted) return OkStatus();
  constexpr double kWarmUpAndReserve = 2;
  Seconds needed = pass_ * (static_cast<double>(wanted) + kWarmUpAndReserve);
  return InvalidArgument(fmt::format(
      "a budget of {:.3g} s is too small to choose from {} settings: give at least "
      "{:.0f} s ({} passes of {:.2g} s, each with {} kind{} of traffic)",
      options_.budget.count(), options_.candidates.size(), std::ceil(needed.count()), wanted,
      pass_.count(), options_.traffics.size(), options_.traffics.size() == 1 ? "" : "s"));
}

size_t Race::PassesLeft() const {
  return static_cast<size_t>(std::max(0.0, (options_.budget - used()) / pass_));
}

bool Race::StopsNow() {
  if (cancel_check_ && cancel_check_()) is_cancelled_ = true;
  return is_cancelled_ || PassesLeft() == 0;
}

void Race::Report(size_t candidate, size_t traffic) const {
  if (!progress_) return;
  TuneProgress progress = {.round = round_,
                           .settings_in_round = settings_in_round_,
                           .used = used(),
                           .budget = options_.budget,
                           .setting = options_.candidates[candidate],
                           .traffic = options_.traffics[traffic],
                           .leader = std::nullopt};
  if (leader_) progress.leader = options_.candidates[*leader_];
  progress_(progress);
}

Result<std::vector<TuneSample>> Race::MeasurePass(size_t candidate) {
  std::vector<size_t> order;
  for (size_t t = 0; t < options_.traffics.size(); ++t) order.push_back(t);
  std::shuffle(order.begin(), order.end(), random_);
  std::vector<TuneSample> samples(order.size());
  for (size_t t : order) {
    if (cancel_check_ && cancel_check_()) is_cancelled_ = true;
    if (is_cancelled_) return Status(Code::kCancelled, "");
    Report(candidate, t);
    Result<TuneSample> sample =
        measure_(options_.candidates[candidate], options_.traffics[t], sample_);
    ++measurements_;
    if (sample.ok() && !(sample->bytes_per_s > 0))
      sample = Internal("not a byte arrived in the time of a measurement");
    if (!sample.ok()) {
      is_cancelled_ = sample.status().code() == Code::kCancelled;
      if (!is_cancelled_) runs_[candidate].failed = sample.status();
      return sample.status();
    }
    samples[t] = *sample;
  }
  return samples;
}

bool Race::Pass(size_t candidate) {
  Result<std::vector<TuneSample>> samples = MeasurePass(candidate);
  if (!samples.ok()) return false;
  for (size_t t = 0; t < samples->size(); ++t) board_.Add(candidate, t, (*samples)[t]);
  runs_[candidate].last_round = round_;
  return true;
}

void Race::MeasureRound(std::vector<size_t> pool) {
  ++round_;
  settings_in_round_ = pool.size();
  std::shuffle(pool.begin(), pool.end(), random_);
  for (size_t candidate : pool) {
    if (runs_[candidate].failed) continue;
    if (StopsNow()) return;
    constexpr double kMemory = 0.9;
    Seconds before = used();
    if (Pass(candidate)) pass_ = kMemory * pass_ + (1 - kMemory) * (used() - before);
  }
}

std::vector<bool> Race::Failed() const {
  std::vector<bool> has_failed;
  for (const Run& run : runs_) has_failed.push_back(run.failed.has_value());
  return has_failed;
}

std::optional<double> Race::SureOfBest() const {
  std::vector<bool> has_failed = Failed();
  return Selection(options_.candidates, lattice_, board_, has_failed).SureOfBest();
}

std::vector<size_t> Race::NextPool() {
  board_.Update();
  std::vector<bool> has_failed = Failed();
  Selection selection(options_.candidates, lattice_, board_, has_failed);
  if (!selection.by_speed().empty()) leader_ = selection.by_speed()[0];
  bool is_end = used() > (1 - kShareOfTheEnd) * options_.budget;
  return selection.NextPool(PassesLeft(), is_end);
}

}  // namespace strata::aio::bench_internal
