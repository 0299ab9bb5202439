// What strata io tune found, in words, tables, JSON and for DeepSpeed.
#pragma once

#include <cstddef>
#include <string>

#include "aio/bench/tune.h"
#include "tools/terminal.h"

namespace strata::tools {

// The winner, how sure that is, the most telling candidates as a table, failures, heat maps.
std::string DescribeTuneReport(const aio::TuneReport& report, Colour colour, size_t width);

// One object: what was asked, the winner, the best of each traffic, every candidate.
std::string TuneReportToJson(const aio::TuneReport& report);

// {"aio": {...}} for a ds_config. DeepSpeed reads intra_op_parallelism; the thread_count of its
// documentation is silently ignored by its releases. It has no choice of backend: what does not run
// on libaio here may not be the best there.
std::string DeepSpeedAio(const aio::AioSetting& setting);

}  // namespace strata::tools
