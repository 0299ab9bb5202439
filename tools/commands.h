// The subcommands of strata. Each returns the program's exit code.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "aio/base/status.h"
#include "tools/plan_arguments.h"

namespace strata::tools {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitInterrupted = 130;

struct TrainArguments {
  std::string program;  // as it was called, for commands to paste
  std::string config;
  std::vector<std::string> sets;
  std::string from;  // a portable checkpoint
  bool resume = false;
  bool overwrite = false;
  bool measure = false;
  bool json = false;
};
int Train(const TrainArguments& arguments);

int Plan(const PlanArguments& arguments);

struct ExportArguments {
  std::string run;
  std::string to;
  std::string dtype;
  std::optional<uint64_t> step;
};
int Export(const ExportArguments& arguments);

struct DoctorArguments {
  std::string config;
  std::vector<std::string> sets;
  bool measure = false;
  std::string write;  // a file; implies measure
  bool ranks = false;
  std::chrono::seconds timeout{300};  // of ranks: for one that others wait for; 0: none
  bool json = false;
};
// What there is on this machine for training, what is wrong with it and what to do about that;
// measured, the rates that plans are made with.
int Doctor(const DoctorArguments& arguments);
// Called by every rank of a job: whether they find each other and agree, and how fast they talk.
int DoctorRanks(const DoctorArguments& arguments);

int PrintVersion();

// "error: message" on stderr; kExitFailed.
int Fail(const Status& status);

}  // namespace strata::tools
