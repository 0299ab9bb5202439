// The results of strata io bench as tables and as JSON.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "aio/bench/phase.h"
#include "aio/bench/target.h"

namespace strata::tools {

struct BenchReport {
  std::string engine;  // the one that was used: "io_uring"
  uint64_t block_size_bytes = 0;
  uint32_t queue_depth = 0;  // per thread
  uint32_t thread_count = 0;
  bool sqpoll = false;
  bool iopoll = false;
  bool registered_files = false;
  bool repeats_data = false;
  uint64_t memory_bytes = 0;
  uint64_t huge_bytes = 0;  // of the memory
  uint64_t size_bytes = 0;  // of the target
  std::vector<aio::TargetPath> paths;
  std::vector<std::string> notes;  // of target and engine, for people
  std::vector<aio::PhaseResult> phases;
  bool partial = false;  // interrupted
};

// What is measured on, a table with a row per phase, and what a person should know of the figures.
std::string DescribeBench(const BenchReport& report);

// One object; docs/aio-bench.md has its keys.
std::string BenchToJson(const BenchReport& report);

}  // namespace strata::tools
