#include "aio/base/log.h"

#include <unistd.h>

#include <array>
#include <atomic>

namespace strata {
namespace {

constexpr std::array<std::string_view, 3> kSeverityNames = {"info", "warning", "error"};

std::atomic<Severity>& Threshold() {
  static std::atomic<Severity> threshold{Severity::kInfo};
  return threshold;
}

}  // namespace

void SetLogThreshold(Severity severity) { Threshold().store(severity); }

void LogLine(Severity severity, std::string_view component, std::string_view text) {
  if (severity < Threshold().load()) return;
  std::string line =
      fmt::format("{} {}: {}\n", kSeverityNames[static_cast<size_t>(severity)], component, text);
  // stderr is the last resort; there is nowhere to report that it failed.
  [[maybe_unused]] ssize_t written = write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace strata
