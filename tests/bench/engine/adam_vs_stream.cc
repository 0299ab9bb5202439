// Adam beside a stream of its shape, round by round in one process: what part of the speed that
// memory allows does the arithmetic leave? The answer is the median over rounds of the two times'
// ratio, as neighbouring rounds share whatever else the machine does.
//
//   adam_vs_stream [--elements N] [--rounds N] [--threads N] [--cpu-time] [--json]
//   adam_vs_stream --serve [--elements N]   for adam_vs_deepspeed.py: see Serve()
#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "aio/base/units.h"
#include "aio/io_buffer.h"
#include "engine/kernels/isa.h"
#include "engine/kernels/thread_pool.h"
#include "engine/optimizer/adam.h"
#include "tests/bench/engine/adam_stream.h"

namespace strata::engine {
namespace {

constexpr uint64_t kPieceElements = 65536;  // as AdamStep cuts

uint64_t MasterBytes(StateFormat format) { return format == StateFormat::kFp32 ? 4 : 2; }
uint64_t MomentElementBytes(StateFormat format) { return format == StateFormat::kInt8 ? 1 : 4; }

// Of one element: read and written, scales of int8 left out.
uint64_t BytesMoved(StateFormat format) {
  const uint64_t weight = format == StateFormat::kFp32 ? 2 : 4;
  return 2 * (MasterBytes(format) + 2 * MomentElementBytes(format)) + weight + 2;
}

// Arrays on huge pages, as the engine's arenas are.
class State {
 public:
  State(StateFormat format, uint64_t num_elements)
      : format_(format),
        num_elements_(RoundUp(num_elements, kPieceElements)),
        memory_(aio::HugeMemory::Map(num_elements_ * 18 + 16_MiB).value()) {
    AdamSlices& s = slices_;
    s.format = format;
    s.num_elements = num_elements_;
    s.gradient_dtype = DType::kBf16;
    s.master = Take(num_elements_ * MasterBytes(format), 0x01);
    s.weight = Take(num_elements_ * 2, 0x3d);
    std::byte* gradient = Take(num_elements_ * 2, 0x3c);
    s.gradient = gradient;
    s.m = Take(MomentBytes(format, num_elements_), format == StateFormat::kInt8 ? 0x75 : 0x3c);
    s.v = Take(MomentBytes(format, num_elements_), format == StateFormat::kInt8 ? 0x75 : 0x3c);
    s.m_scales = reinterpret_cast<uint8_t*>(s.m) + num_elements_;
    s.v_scales = reinterpret_cast<uint8_t*>(s.v) + num_elements_;
  }

  const AdamSlices& slices() const { return slices_; }
  double bytes_moved() const { return static_cast<double>(num_elements_ * BytesMoved(format_)); }

  AdamSlices Piece(uint64_t number) const {
    const uint64_t begin = number * kPieceElements;
    AdamSlices piece = slices_;
    piece.master += begin * MasterBytes(format_);
    piece.m += begin * MomentElementBytes(format_);
    piece.v += begin * MomentElementBytes(format_);
    piece.gradient += begin * 2;
    piece.weight += begin * 2;
    piece.num_elements = kPieceElements;
    return piece;
  }

 private:
  std::byte* Take(uint64_t size_bytes, int fill) {
    std::byte* taken = memory_.bytes().data() + used_;
    std::fill_n(taken, size_bytes, static_cast<std::byte>(fill));
    used_ += RoundUp(size_bytes, 4_KiB);
    return taken;
  }

  StateFormat format_;
  uint64_t num_elements_;
  aio::HugeMemory memory_;
  uint64_t used_ = 0;
  AdamSlices slices_;
};

// What a round takes: time on the clock, or what the process's threads spent on a processor, which
// is steadier where others use the machine, too (but memory they share all the same).
clockid_t g_clock = CLOCK_MONOTONIC;

double Now() {
  timespec now{};
  clock_gettime(g_clock, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

double SecondsOf(const std::function<void()>& run) {
  const double begin = Now();
  run();
  return Now() - begin;
}

double AdamSeconds(const State& state, ThreadPool& pool) {
  static const AdamScalars scalars = MakeAdamScalars({}, 1e-5, 10, 0.5);
  return SecondsOf([&] { AdamStep(scalars, state.slices(), pool); });
}

double StreamSeconds(const State& state, ThreadPool& pool) {
  static const AdamStream stream = FindAdamStream(InstructionSets().back());
  return SecondsOf([&] {
    pool.ParallelFor(state.slices().num_elements / kPieceElements,
                     [&](size_t i) { stream(state.Piece(i)); });
  });
}

double Median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

struct Comparison {
  double fraction = 0;  // of the stream's speed
  double adam_gb_per_s = 0;
  double stream_gb_per_s = 0;
};

Comparison Compare(const State& state, ThreadPool& pool, uint64_t rounds) {
  std::vector<double> fractions, adam, stream;
  for (uint64_t round = 0; round < rounds + 1; ++round) {
    double adam_s = 0, stream_s = 0;
    if (round % 2 == 0) adam_s = AdamSeconds(state, pool);
    stream_s = StreamSeconds(state, pool);
    if (round % 2 == 1) adam_s = AdamSeconds(state, pool);
    if (round == 0) continue;  // warms up
    fractions.push_back(stream_s / adam_s);
    adam.push_back(state.bytes_moved() / adam_s / 1e9);
    stream.push_back(state.bytes_moved() / stream_s / 1e9);
  }
  return {Median(fractions), Median(adam), Median(stream)};
}

struct Arguments {
  uint64_t num_elements = 1 << 25;
  uint64_t rounds = 21;
  std::vector<uint32_t> threads = {1, 2};
  std::string format;  // empty: all
  bool json = false;
  bool serve = false;
};

std::optional<Arguments> Parse(std::vector<std::string> words) {
  Arguments arguments;
  for (size_t i = 0; i < words.size(); ++i) {
    const bool has_value = i + 1 < words.size();
    if (words[i] == "--json") {
      arguments.json = true;
    } else if (words[i] == "--cpu-time") {
      g_clock = CLOCK_PROCESS_CPUTIME_ID;
    } else if (words[i] == "--serve") {
      arguments.serve = true;
    } else if (words[i] == "--elements" && has_value) {
      arguments.num_elements = std::strtoull(words[++i].c_str(), nullptr, 10);
    } else if (words[i] == "--format" && has_value) {
      arguments.format = words[++i];
    } else if (words[i] == "--rounds" && has_value) {
      arguments.rounds = std::strtoull(words[++i].c_str(), nullptr, 10);
    } else if (words[i] == "--threads" && has_value) {
      arguments.threads = {static_cast<uint32_t>(std::strtoul(words[++i].c_str(), nullptr, 10))};
    } else {
      return std::nullopt;
    }
  }
  const bool is_right =
      arguments.num_elements > 0 && arguments.rounds > 0 && arguments.threads.front() > 0;
  return is_right ? std::optional(arguments) : std::nullopt;
}

constexpr StateFormat kFormats[] = {StateFormat::kFp32, StateFormat::kSplit, StateFormat::kInt8};

void CompareAll(const Arguments& arguments) {
  std::string json;
  for (const StateFormat format : kFormats) {
    if (!arguments.format.empty() && arguments.format != StateFormatName(format)) continue;
    const State state(format, arguments.num_elements);
    for (const uint32_t threads : arguments.threads) {
      ThreadPool pool = ThreadPool::Create(threads).value();
      const Comparison c = Compare(state, pool, arguments.rounds);
      const std::string name = fmt::format("{}.threads_{}", StateFormatName(format), threads);
      json += fmt::format(
          "{}\"{}\":{{\"fraction\":{:.4f},\"adam_gb_per_s\":{:.3f},"
          "\"stream_gb_per_s\":{:.3f}}}",
          json.empty() ? "" : ",", name, c.fraction, c.adam_gb_per_s, c.stream_gb_per_s);
      if (arguments.json) continue;
      fmt::print("{:16} adam {:6.2f} GB/s  stream {:6.2f} GB/s  fraction {:.3f}\n", name,
                 c.adam_gb_per_s, c.stream_gb_per_s, c.fraction);
      std::fflush(stdout);
    }
  }
  if (arguments.json) fmt::print("{{{}}}\n", json);
}

// Answers each line "FORMAT THREADS" of stdin with the seconds of one Adam step, until stdin ends.
int Serve(const Arguments& arguments) {
  std::map<std::string, State> states;
  std::string line;
  while (std::getline(std::cin, line)) {
    std::istringstream words(line);
    std::string name;
    uint32_t threads = 0;
    words >> name >> threads;
    const auto* format = std::find_if(std::begin(kFormats), std::end(kFormats),
                                      [&](auto known) { return StateFormatName(known) == name; });
    if (format == std::end(kFormats) || threads == 0) return 2;
    const State& state = states.try_emplace(name, *format, arguments.num_elements).first->second;
    ThreadPool pool = ThreadPool::Create(threads).value();
    fmt::print("{:.9f}\n", AdamSeconds(state, pool));
    std::fflush(stdout);
  }
  return 0;
}

int Main(const std::vector<std::string>& words) {
  const std::optional<Arguments> arguments = Parse(words);
  if (!arguments) {
    std::cerr << "usage: adam_vs_stream [--elements N] [--rounds N] [--threads N] [--cpu-time] "
                 "[--json|--serve]\n";
    return 2;
  }
  if (arguments->serve) return Serve(*arguments);
  CompareAll(*arguments);
  return 0;
}

}  // namespace

#define STRATA_DECLARE(name)           \
  namespace name {                     \
  extern const AdamStream kAdamStream; \
  }
STRATA_ISAS(STRATA_DECLARE)
#undef STRATA_DECLARE

AdamStream FindAdamStream(std::string_view instruction_set) {
#define STRATA_FIND(name) \
  if (instruction_set == #name) return name::kAdamStream;
  STRATA_ISAS(STRATA_FIND)
#undef STRATA_FIND
  return nullptr;
}

}  // namespace strata::engine

int main(int argc, char** argv) { return strata::engine::Main({argv + 1, argv + argc}); }
