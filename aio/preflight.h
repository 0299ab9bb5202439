// What stands between a path and fast, honest I/O on it, and what to do about each thing.
//
// Looking changes nothing: a file that is made to try direct I/O has no name or is removed at once.
// What the machine does not tell is "unknown" and no problem.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "aio/preflight_roots.h"

namespace strata::aio {

enum class FindingSeverity {
  kFine,
  kNote,     // works; a person who wants the last percent, or a surprise less, reads on
  kProblem,  // does not work, or far from what the drive can do
};

struct Finding {
  std::string key = {};    // for scripts: "direct_io"; several drives have one of a kind each
  std::string what = {};   // for people: "direct I/O"
  std::string value = {};  // what was found: "offsets of 512 bytes, memory of 4"
  FindingSeverity severity = FindingSeverity::kFine;
  std::string explanation = {};  // why that matters; may be empty when fine
  std::string command = {};      // what fixes it; empty where no command does
};

std::string_view FindingSeverityName(FindingSeverity severity);  // "fine", "note", "problem"

struct Preflight {
  std::string subject;  // the path; "machine" for what holds for every path
  std::vector<Finding> findings;

  bool HasProblem() const;
};

// io_uring, libaio, limits of this process, memory.
Preflight CheckMachine(const PreflightRoots& roots = {});

// A directory that files are to be made in, a file, or a block device.
Preflight CheckPath(const std::string& path, const PreflightRoots& roots = {});

}  // namespace strata::aio
