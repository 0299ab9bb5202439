// What strata plan is asked: about a run described by a file, or about one on a machine described
// by flags.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/cluster/cluster.h"

namespace strata::tools {

struct PlanArguments {
  std::string config;  // empty: `workload` on `cluster`
  std::vector<std::string> sets;
  engine::Workload workload;
  engine::Cluster cluster;
  engine::ZeroChoice choice;  // what is not given goes as far from the GPU as there is a place
  bool has_optimizer = false;
  bool has_weights = false;
  std::string hardware;  // a file with a [hardware] section
  std::string write_config;
  bool table = false;
  uint32_t scaling_from = 0;  // GPUs of the first row; 0: no such table
  bool largest = false;
  bool inference = false;
  bool json = false;
};

// "8", "8@6.5/4GB/s", "8@6.5/4/7GB/s" (both at once), "4x7.68TB@6.5/4GB/s", or directories, comma
// separated, one per drive. GB and TB are the decimal ones of data sheets.
Result<engine::Drives> ParseDrives(const std::string& text);

// "25GB/s": a rate, decimal.
Result<double> ParseRate(const std::string& text);

}  // namespace strata::tools
