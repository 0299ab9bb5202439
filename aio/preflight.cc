#include "aio/preflight.h"

#include <algorithm>
#include <filesystem>

#include "aio/base/check.h"
#include "aio/internal/block_tree.h"
#include "aio/internal/preflight/findings.h"
#include "aio/internal/preflight/uring.h"

namespace strata::aio {
namespace {

namespace fs = std::filesystem;

void Append(std::vector<Finding> findings, Preflight& preflight) {
  for (Finding& finding : findings) preflight.findings.push_back(std::move(finding));
}

void CheckSpace(const std::string& path, Preflight& preflight) {
  Result<SpaceLeft> left = AskSpaceLeft(path);
  if (left.ok()) return Append(SpaceFindings(path, *left), preflight);
  preflight.findings.push_back(Topic{"free_space", "free space"}.Problem(
      left.status().message(), "The file system does not answer: look at the kernel's log.",
      "sudo dmesg | tail -n 30"));
}

void CheckFileSystem(const std::string& path, bool is_directory, const PreflightRoots& roots,
                     Preflight& preflight) {
  std::optional<Mount> mount = MountOf(RealPath(path).value_or(path), roots);
  preflight.findings.push_back(FileSystemFinding(path, mount));
  Append(MountOptionFindings(mount), preflight);
  CheckSpace(path, preflight);
  if (!is_directory) return preflight.findings.push_back(DirectIoOfFile(path));
  // Where nothing may be written, that has been said, and trying says no more.
  bool is_writable = preflight.findings.front().severity != FindingSeverity::kProblem;
  if (is_writable) Append(DirectIoFindings(path), preflight);
}

void CheckDrives(const std::string& path, const PreflightRoots& roots, Preflight& preflight) {
  Result<BlockChain> chain = FindBlockChain(path, roots);
  preflight.findings.push_back(ChainFinding(chain));
  if (!chain.ok()) return;
  Append(LayerFindings(*chain), preflight);
  for (const Drive& drive : chain->drives) Append(DriveFindings(drive, roots), preflight);
  preflight.findings.push_back(ThrottleFinding(*chain, roots));
}

}  // namespace

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

Preflight CheckMachine(const PreflightRoots& roots) {
  Preflight preflight{
      .subject = "machine",
      .findings = {UringFinding(AskUring(), roots), LibaioFinding(roots),
                   LockedMemoryFinding(roots), OpenFilesFinding(roots), FileSizeFinding(roots)}};
  Append(MemoryFindings(roots), preflight);
  return preflight;
}

Preflight CheckPath(const std::string& path, const PreflightRoots& roots) {
  Preflight preflight{.subject = path, .findings = {PathFinding(path)}};
  std::error_code error;
  fs::file_status status = fs::status(path, error);
  if (fs::is_block_file(status)) {
    if (!preflight.HasProblem()) Append(DeviceFindings(path), preflight);
  } else if (fs::is_directory(status) || fs::is_regular_file(status)) {
    CheckFileSystem(path, fs::is_directory(status), roots, preflight);
  } else {
    return preflight;
  }
  CheckDrives(path, roots, preflight);
  return preflight;
}

}  // namespace strata::aio
