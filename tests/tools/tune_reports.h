// Reports of searches to render.
#pragma once

#include "aio/base/units.h"
#include "aio/bench/tune.h"
#include "aio/bench/tune_grid.h"
#include "tests/aio/bench/simulated_disk.h"

namespace strata::tools {

// Of a search on a simulated disk, with libaio refused.
inline aio::TuneReport SearchedReport() {
  aio::SimulatedDisk disk({.failure = [](const aio::AioSetting& setting) {
    return setting.backend == aio::IoBackend::kLibaio
               ? Unavailable("io_setup <1 & \"2\">: fs.aio-max-nr is used up")
               : OkStatus();
  }});
  aio::TuneOptions options = {.candidates = aio::DefaultCandidates(
                                  {.cores = 2,
                                   .in_flight_limit_bytes = 256_MiB,
                                   .backends = {aio::IoBackend::kIoUring, aio::IoBackend::kLibaio,
                                                aio::IoBackend::kPosix}}),
                              .now = disk.clock()};
  Result<aio::TuneReport> report = Tune(options, disk.measure());
  STRATA_CHECK(report.ok());
  return std::move(*report);
}

inline aio::TrafficResult Bandwidth(double gb_per_s, size_t num_samples = 4) {
  return {.num_samples = num_samples,
          .median_bytes_per_s = gb_per_s * 1e9,
          .mean_bytes_per_s = gb_per_s * 1e9,
          .low_bytes_per_s = 0.95 * gb_per_s * 1e9,
          .high_bytes_per_s = 1.05 * gb_per_s * 1e9,
          .cpu_s_per_byte = 5e-12};
}

inline aio::TuneCandidate Candidate(const aio::AioSetting& setting, double gb_per_s) {
  aio::TuneCandidate candidate = {.setting = setting, .traffics = {Bandwidth(gb_per_s)}};
  candidate.speed = gb_per_s / 4;
  candidate.low_speed = 0.95 * candidate.speed;
  candidate.high_speed = 1.05 * candidate.speed;
  candidate.cpu_s_per_byte = 5e-12;
  candidate.fate = aio::Fate::kEliminated;
  candidate.round = 3;
  candidate.why = "slow";
  return candidate;
}

// Five settings and reads alone, written by hand.
inline aio::TuneReport SmallReport() {
  aio::TuneReport report;
  report.traffics = {aio::Traffic::kRead};
  report.candidates = {
      Candidate({.block_size_bytes = 512_KiB, .queue_depth = 4}, 1.0),
      Candidate({.block_size_bytes = 512_KiB, .queue_depth = 8}, 3.0),
      Candidate({.block_size_bytes = 1_MiB, .queue_depth = 8, .thread_count = 2}, 4.0),
      Candidate({.block_size_bytes = 1_MiB, .queue_depth = 8}, 3.97),
      Candidate({.backend = aio::IoBackend::kPosix, .block_size_bytes = 1_MiB, .queue_depth = 4},
                2.0)};
  report.candidates.push_back({.setting = {.block_size_bytes = 8_MiB, .queue_depth = 64},
                               .traffics = {{}},
                               .why = "not on the coarse grid"});
  report.candidates[3].fate = aio::Fate::kWinner;
  report.winner = 3;
  report.best_of_traffic = {2};
  report.budget = std::chrono::seconds(60);
  report.used = std::chrono::seconds(59);
  report.sample = std::chrono::milliseconds(200);
  report.rounds = 9;
  report.measurements = 100;
  return report;
}

}  // namespace strata::tools
