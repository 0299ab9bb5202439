#include "tests/prefetch/trace_interpreter.h"

namespace strata::prefetch {
namespace {

// splitmix64, a step and its finisher.
uint64_t Mix(uint64_t value) {
  value += 0x9e3779b97f4a7c15;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

uint64_t Digest(uint64_t seed, std::span<const std::byte> bytes) {
  for (std::byte byte : bytes) seed = (seed ^ static_cast<uint64_t>(byte)) * 0x100000001b3;
  return Mix(seed);
}

}  // namespace

void FillRandom(uint64_t seed, std::span<std::byte> bytes) {
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (i % 8 == 0) seed = Mix(seed);
    bytes[i] = static_cast<std::byte>(seed >> (i % 8 * 8));
  }
}

Status RunStandIn(const Trace& trace, OpId op, const Operands& operands) {
  const std::vector<Access>& accesses = trace.ops[Index(op)].accesses;
  const uint64_t own_seed = Mix(Index(op));
  FillRandom(own_seed, operands.workspace);
  const uint64_t workspace_digest = Digest(0, operands.workspace);
  uint64_t seed = own_seed;
  for (size_t i = 0; i < accesses.size(); ++i) {
    if (accesses[i].mode != AccessMode::kWrite) seed = Digest(seed, operands.blocks[i]);
  }
  for (size_t i = 0; i < accesses.size(); ++i) {
    if (accesses[i].mode != AccessMode::kRead) FillRandom(seed + i, operands.blocks[i]);
  }
  if (Digest(0, operands.workspace) == workspace_digest) return OkStatus();
  return Internal("someone wrote into the workspace of " + trace.ops[Index(op)].name);
}

TraceInterpreter::TraceInterpreter(const Trace& trace) : trace_(trace) {
  for (size_t i = 0; i < trace.blocks.size(); ++i) {
    Bytes& content = contents_.emplace_back(trace.blocks[i].size_bytes);
    if (trace.blocks[i].lifetime == Lifetime::kPersistent) FillRandom(i, content);
  }
}

void TraceInterpreter::Step() {
  for (size_t op = 0; op < trace_.ops.size(); ++op) {
    std::vector<std::span<std::byte>> blocks;
    for (const Access& access : trace_.ops[op].accesses) {
      blocks.push_back(contents_[Index(access.block)]);
    }
    Bytes workspace(trace_.ops[op].workspace_bytes);
    STRATA_CHECK(RunStandIn(trace_, OpId(op), {.blocks = blocks, .workspace = workspace}).ok());
  }
}

}  // namespace strata::prefetch
