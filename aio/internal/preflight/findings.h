// What CheckMachine() and CheckPath() are made of: one function per thing that is looked at.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "aio/preflight.h"

namespace strata::aio {

// What a finding is about; turns into one when it is known how that stands.
struct Topic {
  std::string key;
  std::string what;

  Finding Fine(std::string value) const { return {key, what, std::move(value)}; }
  Finding Unknown() const { return Fine("unknown"); }
  Finding Note(std::string value, std::string explanation, std::string command = {}) const {
    return {key,
            what,
            std::move(value),
            FindingSeverity::kNote,
            std::move(explanation),
            std::move(command)};
  }
  Finding Problem(std::string value, std::string explanation, std::string command = {}) const {
    return {key,
            what,
            std::move(value),
            FindingSeverity::kProblem,
            std::move(explanation),
            std::move(command)};
  }
};

// As a shell takes it: in quotes where it must be.
std::string Quoted(const std::string& path);

// Whether the path is there, what it is, and whether this user may write to it.
Finding PathFinding(const std::string& path);

}  // namespace strata::aio
