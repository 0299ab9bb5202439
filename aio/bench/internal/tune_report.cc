#include "aio/bench/internal/tune_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "aio/bench/internal/choice.h"
#include "aio/bench/internal/selection.h"

namespace strata::aio::bench_internal {
namespace {

// A cheaper setting than the fastest wins when it is so sure not to be slower by more than this.
constexpr double kSurelyWithin = 0.03;

class ReportWriter {
 public:
  ReportWriter(const Race& race, const TuneOptions& options)
      : race_(race), board_(race.board()), options_(options) {}

  TuneReport Write() {
    for (size_t i = 0; i < options_.candidates.size(); ++i)
      report_.candidates.push_back(Numbers(i));
    Describe();
    ChooseWinner();
    for (size_t t = 0; t < options_.traffics.size(); ++t)
      report_.best_of_traffic.push_back(BestOf(t));
    return std::move(report_);
  }

 private:
  TuneCandidate Numbers(size_t i) const {
    TuneCandidate candidate = {.setting = options_.candidates[i]};
    for (size_t t = 0; t < options_.traffics.size(); ++t)
      candidate.traffics.push_back(board_.ResultOf(i, t));
    candidate.round = race_.runs()[i].last_round;
    if (const auto& score = board_.score(i)) {
      bool is_sure = std::isfinite(score->half_width);
      candidate.speed = std::exp(score->median);
      candidate.low_speed = is_sure ? std::exp(score->low()) : candidate.speed;
      candidate.high_speed = is_sure ? std::exp(score->high()) : candidate.speed;
      candidate.cpu_s_per_byte = board_.CpuSecondsPerByte(i);
    }
    return candidate;
  }

  void Describe() {
    report_.traffics = options_.traffics;
    report_.budget = options_.budget;
    report_.used = race_.used();
    report_.sample = race_.sample();
    report_.rounds = race_.rounds();
    report_.measurements = race_.measurements();
    report_.seed = options_.seed;
    report_.cancelled = race_.cancelled();
  }

  // Those whose numbers can be trusted; of an early end, those that were measured most.
  std::vector<size_t> Trusted() const {
    size_t most = 0;
    std::vector<size_t> trusted;
    for (size_t i = 0; i < options_.candidates.size(); ++i)
      if (race_.IsStanding(i)) most = std::max(most, board_.score(i)->num_samples);
    for (size_t i = 0; i < options_.candidates.size(); ++i)
      if (race_.IsStanding(i) && board_.score(i)->num_samples >= std::min(most, kSamplesOfAWinner))
        trusted.push_back(i);
    return trusted;
  }

  void ChooseWinner() {
    report_.winner = Choice(board_, options_.candidates).Cheapest(Trusted(), kSurelyWithin);
    for (size_t i = 0; i < report_.candidates.size(); ++i) Judge(i);
  }

  void Judge(size_t i) {
    TuneCandidate& candidate = report_.candidates[i];
    if (race_.runs()[i].failed) {
      candidate.fate = Fate::kFailed;
      candidate.why = race_.runs()[i].failed->ToString();
    } else if (!board_.score(i)) {
      candidate.fate = Fate::kNotMeasured;
      candidate.why = "not on the coarse grid, and next to no leader";
    } else if (i == report_.winner) {
      candidate.fate = Fate::kWinner;
      candidate.why = "the fastest, or the cheapest of those that are as fast";
    } else {
      JudgeLoser(candidate);
    }
  }

  void JudgeLoser(TuneCandidate& candidate) const {
    std::optional<double> sure = race_.SureOfBest();
    const TuneCandidate& winner = report_.candidates[*report_.winner];
    double share = candidate.speed / winner.speed;
    if (sure && candidate.high_speed < std::exp(*sure)) {
      candidate.fate = Fate::kEliminated;
      candidate.why = fmt::format("at most {:.2f}, the best at least {:.2f}", candidate.high_speed,
                                  std::exp(*sure));
    } else if (candidate.round + 1 < race_.rounds()) {
      candidate.fate = Fate::kCut;
      candidate.why = fmt::format("{:.2f} of the winner; the budget went to others", share);
    } else {
      candidate.fate = Fate::kFinalist;
      candidate.why = fmt::format("{:.2f} of the winner", share);
    }
  }

  std::optional<size_t> BestOf(size_t traffic) const {
    std::optional<size_t> best;
    auto sure = [&](size_t i) { return report_.candidates[i].traffics[traffic].low_bytes_per_s; };
    for (size_t i : Trusted())
      if (!best || sure(i) > sure(*best)) best = i;
    return best;
  }

  const Race& race_;
  const ScoreBoard& board_;
  const TuneOptions& options_;
  TuneReport report_;
};

}  // namespace

TuneReport ReportOf(const Race& race, const TuneOptions& options) {
  return ReportWriter(race, options).Write();
}

}  // namespace strata::aio::bench_internal
