// A planned run in words, tables and JSON.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "engine/train/planning.h"

namespace strata::tools {

// The model, where its state lives, memory by tier and purpose, NVMe space and traffic per step,
// predicted step time and what bounds it.
std::string DescribePlan(const engine::PlannedRun& run);

// Planned against measured, after a run.
std::string DescribeMemory(const engine::PlannedRun& run, std::optional<uint64_t> peak_rss_bytes);

std::string PlanToJson(const engine::PlannedRun& run);

// Bytes of weights, gradients, masters and moments of the whole model on all ranks: what would have
// to fit without offloading.
uint64_t TrainingStateBytes(const engine::PlannedRun& run);

// Bytes of the store's files of this rank.
uint64_t StoreBytes(const engine::PlannedRun& run);

}  // namespace strata::tools
