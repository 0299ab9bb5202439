#include "aio/bench/tune.h"

#include <algorithm>
#include <ratio>

#include "aio/bench/internal/race.h"
#include "aio/bench/internal/tune_report.h"

namespace strata::aio {

std::chrono::duration<double> SteadySeconds() {
  return std::chrono::steady_clock::now().time_since_epoch();
}

std::string_view FateName(Fate fate) {
  switch (fate) {
    case Fate::kWinner:
      return "winner";
    case Fate::kFinalist:
      return "finalist";
    case Fate::kEliminated:
      return "eliminated";
    case Fate::kCut:
      return "cut";
    case Fate::kFailed:
      return "failed";
    case Fate::kNotMeasured:
      return "not measured";
  }
  STRATA_CHECK(false);
  return "";
}

Result<TuneReport> Tune(const TuneOptions& options, const MeasureSetting& measure,
                        const TuneProgressCallback& progress, const TuneCancelCheck& cancelled) {
  if (options.candidates.empty()) return InvalidArgument("tune: no settings to choose from");
  if (options.traffics.empty()) return InvalidArgument("tune: no kind of traffic to measure");
  bench_internal::Race race(options, measure, progress, cancelled);
  STRATA_RETURN_IF_ERROR(race.Go());
  return bench_internal::ReportOf(race, options);
}

}  // namespace strata::aio
