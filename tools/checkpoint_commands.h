// The subcommands of strata checkpoint. Each returns the program's exit code.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace strata::tools {

struct CheckpointListArguments {
  std::string path;
  bool json = false;
};
int CheckpointList(const CheckpointListArguments& arguments);

struct CheckpointVerifyArguments {
  std::string path;
  std::optional<uint64_t> step;
  bool json = false;
};
// kExitFailed when anything is damaged.
int CheckpointVerify(const CheckpointVerifyArguments& arguments);

struct CheckpointExportArguments {
  std::string run;
  std::string to;
  std::optional<uint64_t> step;
  std::optional<uint32_t> ranks;
  bool json = false;
};
int CheckpointExport(const CheckpointExportArguments& arguments);

struct CheckpointPruneArguments {
  std::string path;
  std::optional<uint64_t> keep;
  std::vector<uint64_t> steps;
  bool dry_run = false;
  bool json = false;
};
int CheckpointPrune(const CheckpointPruneArguments& arguments);

}  // namespace strata::tools
