// The subcommands of strata io. Each returns the program's exit code.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "aio/base/units.h"
#include "aio/bench/workload.h"
#include "aio/io_engine.h"

namespace strata::tools {

struct IoCheckArguments {
  std::vector<std::string> paths;
  bool json = false;
};
// kExitFailed when something found is a problem.
int IoCheck(const IoCheckArguments& arguments);

struct IoBenchArguments {
  std::vector<std::string> paths = {"."};
  uint64_t size_bytes = 1_GiB;
  uint64_t block_size_bytes = 1_MiB;
  uint32_t queue_depth = 16;
  uint32_t thread_count = 1;
  std::optional<aio::IoBackend> engine;  // none: the best there is
  bool sqpoll = false;
  bool iopoll = false;
  bool registered_files = false;
  // None of the three: all, one after the other.
  bool read = false;
  bool write = false;
  std::optional<aio::Mix> mixed;
  bool random = false;
  double seconds = 5;  // for each kind of traffic
  uint32_t runs = 3;   // that share them
  bool verify = false;
  bool repeat_data = false;
  std::string device = "cpu";
  bool equal_stripes = false;
  bool destroy_data = false;
  bool json = false;
};
int IoBench(const IoBenchArguments& arguments);

struct IoTuneArguments {
  std::vector<std::string> paths = {"."};
  uint64_t size_bytes = 2_GiB;
  std::chrono::duration<double> budget = std::chrono::seconds(60);
  // None of the three: all.
  bool read = false;
  bool write = false;
  bool mix = false;
  std::vector<aio::IoBackend> engines;  // none: all that work here
  uint64_t seed = 1;
  bool destroy_data = false;
  std::string config;
  std::string html;
  bool json = false;
  bool deepspeed = false;
};
int IoTune(const IoTuneArguments& arguments);

}  // namespace strata::tools
