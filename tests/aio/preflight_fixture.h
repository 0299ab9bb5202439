// What the tests of preflights need: a path of this machine, and another machine to find it on.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "aio/preflight.h"
#include "tests/aio/fake_machine.h"
#include "tests/aio/scratch.h"

namespace strata::aio {

inline constexpr auto kFine = FindingSeverity::kFine;
inline constexpr auto kNote = FindingSeverity::kNote;
inline constexpr auto kProblem = FindingSeverity::kProblem;

// The first finding of that key; one that says "absent" where there is none.
inline Finding FindingOf(const Preflight& preflight, const std::string& key) {
  for (const Finding& finding : preflight.findings) {
    if (finding.key == key) return finding;
  }
  return {.key = key, .value = "absent"};
}

class PreflightTest : public testing::Test {
 protected:
  Preflight Path() { return CheckPath(path_.path(), machine_.roots()); }
  Preflight Machine() { return CheckMachine(machine_.roots()); }
  Finding OfPath(const std::string& key) { return FindingOf(Path(), key); }
  Finding OfMachine(const std::string& key) { return FindingOf(Machine(), key); }

  void MountNvme() {
    machine_.AddNvme("nvme0n1", "259:0", 1);
    machine_.MountRoot("259:0", "ext4", "/dev/nvme0n1", "rw");
  }
  void SetScheduler(const std::string& text) {
    machine_.Write("sys/class/block/nvme0n1/queue/scheduler", text);
  }

  ScratchDirectory path_;
  FakeMachine machine_;
};

}  // namespace strata::aio
