#include "aio/preflight.h"

#include <algorithm>

#include "aio/base/check.h"
#include "aio/internal/preflight/findings.h"

namespace strata::aio {

std::string_view FindingSeverityName(FindingSeverity severity) {
  switch (severity) {
    case FindingSeverity::kFine:
      return "fine";
    case FindingSeverity::kNote:
      return "note";
    case FindingSeverity::kProblem:
      return "problem";
  }
  STRATA_CHECK(!"a severity");
}

bool Preflight::HasProblem() const {
  return std::any_of(findings.begin(), findings.end(), [](const Finding& finding) {
    return finding.severity == FindingSeverity::kProblem;
  });
}

Preflight CheckMachine(const PreflightRoots&) { return {.subject = "machine", .findings = {}}; }

Preflight CheckPath(const std::string& path, const PreflightRoots&) {
  Preflight preflight{.subject = path, .findings = {}};
  preflight.findings.push_back(PathFinding(path));
  return preflight;
}

}  // namespace strata::aio
