// What a trace means: its ops one after the other on plain memory. The reference for plans.
#pragma once

#include <cstddef>
#include <vector>

#include "prefetch/executor.h"

namespace strata::prefetch {

using Bytes = std::vector<std::byte>;

// A stand-in for any op: fills what it writes with bytes that depend on the op and on every byte
// that it reads, and uses its workspace on the way. kInternal when the workspace changes under it.
Status RunStandIn(const Trace& trace, OpId op, const Operands& operands);

// Bytes that look random and depend on `seed` only.
void FillRandom(uint64_t seed, std::span<std::byte> bytes);

class TraceInterpreter {
 public:
  // Persistent blocks start with FillRandom(index).
  explicit TraceInterpreter(const Trace& trace);

  void Step();
  const Bytes& ContentOf(BlockId block) const { return contents_[Index(block)]; }

 private:
  const Trace& trace_;
  std::vector<Bytes> contents_;  // by block
};

}  // namespace strata::prefetch
