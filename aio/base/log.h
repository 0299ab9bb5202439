// One line per thing a person would act on; what is merely countable goes to metrics.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>

namespace strata {

enum class Severity { kInfo, kWarning, kError };

// Writes "warning aio: text" to stderr as one write(2). Thread-safe.
void LogLine(Severity severity, std::string_view component, std::string_view text);

// Nothing below `severity` is written. The default is kInfo.
void SetLogThreshold(Severity severity);

// Log(Severity::kWarning, "prefetch", "late shard layer={} wait_us={}", layer, wait_us);
// The format is checked at compile time.
template <typename... Args>
void Log(Severity severity, std::string_view component, fmt::format_string<Args...> format,
         Args&&... args) {
  LogLine(severity, component, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace strata
