// The exhaustive sweep that strata io tune saves its users: every setting, several rounds, and then
// the best of them against the settings that were picked, run by run. Called by tune_vs_sweep.sh.
// Median and objective are its own, not aio/bench's: it is what those are judged by.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "aio/base/units.h"
#include "aio/bench/disk_meter.h"
#include "aio/bench/target.h"
#include "aio/bench/tune_grid.h"

namespace strata::aio {
namespace {

constexpr std::array kTraffics = {Traffic::kRead, Traffic::kWrite, Traffic::kMix};
// As the objective of tune.h has them.
constexpr std::array kWeights = {0.2, 0.1, 0.7};

struct Arguments {
  std::string directory;
  uint64_t size_mib = 1024;
  uint64_t in_flight_mib = 128;
  uint32_t rounds = 2;
  double seconds = 0.1;
  uint32_t best = 8;
  uint32_t contests = 15;
  double contest_seconds = 0.3;
  std::vector<std::string> picks;  // "io_uring,1048576,16,1,0"
};

double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  size_t middle = values.size() / 2;
  std::ranges::nth_element(values, values.begin() + static_cast<ptrdiff_t>(middle));
  return values[middle];
}

struct Row {
  AioSetting setting;
  std::array<std::vector<double>, kTraffics.size()> gb_per_s = {};
  std::string failure = {};

  double MedianOf(size_t traffic) const { return Median(gb_per_s[traffic]); }
};
using Bests = std::array<double, kTraffics.size()>;

// The weighted harmonic mean of bandwidths, each as a share of the best one's.
double Speed(const Row& row, const Bests& bests) {
  double time = 0;
  for (size_t t = 0; t < kTraffics.size(); ++t) {
    if (row.MedianOf(t) <= 0) return 0;
    time += kWeights[t] * bests[t] / row.MedianOf(t);
  }
  return 1 / time;
}

Bests BestsOf(const std::vector<Row>& rows) {
  Bests bests = {};
  for (const Row& row : rows) {
    for (size_t t = 0; t < kTraffics.size(); ++t) bests[t] = std::max(bests[t], row.MedianOf(t));
  }
  return bests;
}

Result<AioSetting> ParsePick(const std::string& text) {
  std::vector<std::string> parts = CLI::detail::split(text, ',');
  if (parts.size() != 5)
    return InvalidArgument("'" + text + "': BACKEND,BLOCK,DEPTH,THREADS,SQPOLL");
  AioSetting setting;
  STRATA_ASSIGN_OR_RETURN(setting.backend, ParseIoBackend(parts[0]));
  setting.block_size_bytes = std::stoull(parts[1]);
  setting.queue_depth = static_cast<uint32_t>(std::stoul(parts[2]));
  setting.thread_count = static_cast<uint32_t>(std::stoul(parts[3]));
  setting.sqpoll = parts[4] == "1";
  return setting;
}

class Sweep {
 public:
  Sweep(DiskMeter& meter, std::mt19937_64& random) : meter_(meter), random_(random) {}

  // Every setting with every traffic, in an order shuffled anew for each round.
  void Measure(std::vector<Row>& rows, uint32_t rounds, double seconds, const char* what) {
    for (uint32_t round = 0; round < rounds; ++round) {
      std::vector<std::pair<size_t, size_t>> order;
      for (size_t i = 0; i < rows.size(); ++i) {
        for (size_t t = 0; t < kTraffics.size(); ++t) order.emplace_back(i, t);
      }
      std::ranges::shuffle(order, random_);
      fmt::print(stderr, "{} round {} of {}: {} measurements\n", what, round + 1, rounds,
                 order.size());
      for (auto [i, t] : order) MeasureOne(rows[i], t, seconds);
    }
  }

 private:
  void MeasureOne(Row& row, size_t traffic, double seconds) {
    if (!row.failure.empty()) return;
    WorkloadOptions options = {.mix = MixOf(kTraffics[traffic]),
                               .duration = Seconds(seconds),
                               .warm_up = Seconds(seconds / 10)};
    Result<WorkloadResult> result = meter_.Measure(row.setting, options);
    if (!result.ok()) {
      row.failure = result.status().ToString();
      return;
    }
    row.gb_per_s[traffic].push_back(result->bytes_per_s() / 1e9);
  }

  DiskMeter& meter_;
  std::mt19937_64& random_;
};

nlohmann::json ToJson(const std::vector<Row>& rows) {
  Bests bests = BestsOf(rows);
  nlohmann::json array = nlohmann::json::array();
  for (const Row& row : rows) {
    nlohmann::json one = {{"setting", DescribeSetting(row.setting)}, {"speed", Speed(row, bests)}};
    if (!row.failure.empty()) one["failure"] = row.failure;
    for (size_t t = 0; t < kTraffics.size(); ++t)
      one[std::string(TrafficName(kTraffics[t]))] = row.gb_per_s[t];
    array.push_back(std::move(one));
  }
  return array;
}

std::vector<Row> BestRows(std::vector<Row> rows, size_t count) {
  Bests bests = BestsOf(rows);
  std::ranges::sort(rows,
                    [&](const Row& a, const Row& b) { return Speed(a, bests) > Speed(b, bests); });
  rows.resize(std::min(rows.size(), count));
  for (Row& row : rows) row.gb_per_s = {};
  return rows;
}

Status Run(const Arguments& arguments) {
  std::vector<AioSetting> picks;
  for (const std::string& pick : arguments.picks) {
    STRATA_ASSIGN_OR_RETURN(AioSetting setting, ParsePick(pick));
    picks.push_back(setting);
  }
  STRATA_ASSIGN_OR_RETURN(std::unique_ptr<BenchTarget> target,
                          BenchTarget::Create({.paths = {arguments.directory},
                                               .size_bytes = arguments.size_mib * 1_MiB}));
  std::vector<Row> rows;
  for (const AioSetting& setting : DefaultCandidates({.cores = std::thread::hardware_concurrency(),
                                   .in_flight_limit_bytes = arguments.in_flight_mib * 1_MiB,
                                   .backends = {kAllIoBackends.begin(), kAllIoBackends.end()}}))
    rows.push_back({.setting = setting});
  uint64_t memory_bytes = 0;
  for (const Row& row : rows)
    memory_bytes = std::max(memory_bytes, WorkloadMemoryBytes(row.setting));
  STRATA_ASSIGN_OR_RETURN(DiskMeter meter, DiskMeter::Create(*target, memory_bytes));

  std::mt19937_64 random(1);
  Sweep sweep(meter, random);
  sweep.Measure(rows, arguments.rounds, arguments.seconds, "sweep");
  std::vector<Row> contestants = BestRows(rows, arguments.best);
  for (const AioSetting& pick : picks) contestants.push_back({.setting = pick});
  sweep.Measure(contestants, arguments.contests, arguments.contest_seconds, "contest");
  nlohmann::json report = {
      {"sweep", ToJson(rows)}, {"contest", ToJson(contestants)}, {"num_picks", picks.size()}};
  fmt::print("{}\n", report.dump());
  return OkStatus();
}

}  // namespace
}  // namespace strata::aio

int main(int argc, char** argv) {
  strata::aio::Arguments arguments;
  CLI::App app("an exhaustive sweep of the settings of the I/O engine, as JSON");
  app.add_option("directory", arguments.directory)->required();
  app.add_option("--size-mib", arguments.size_mib);
  app.add_option("--in-flight-mib", arguments.in_flight_mib);
  app.add_option("--rounds", arguments.rounds);
  app.add_option("--seconds", arguments.seconds, "of each measurement");
  app.add_option("--best", arguments.best, "settings of the sweep that contest with the picks");
  app.add_option("--contests", arguments.contests);
  app.add_option("--contest-seconds", arguments.contest_seconds);
  app.add_option("--pick", arguments.picks, "BACKEND,BLOCK,DEPTH,THREADS,SQPOLL")->take_all();
  CLI11_PARSE(app, argc, argv);
  strata::Status status = strata::aio::Run(arguments);
  if (!status.ok()) fmt::print(stderr, "error: {}\n", status.message());
  return status.ok() ? 0 : 1;
}
