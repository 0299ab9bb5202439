// NCCL without GPUs: its functions for ranks that are threads of this process, on the emulator's
// streams (tests/fakes/cuda/emulator.h).
//
// It is as strict as the library where that matters. What is put on a stream stands there only once
// the communicator has said that it is no longer in progress; sends, receives and collectives match
// by order alone, and of different sizes hang, until the communicator is aborted. Thread-safe.
#pragma once

#include <cstdint>
#include <string>

#include "engine/comm/nccl/nccl_functions.h"

namespace strata::fakes::nccl {

const engine::NcclFunctions& Functions();

// What each communicator takes of its GPU's memory from when it has its rank; 0 at first.
void TakeMemory(uint64_t bytes_per_rank);
// Everything as at first: no failures. No communicator may be left.
void Reset();

// Of this thread, whose rank then has another version than the others; 0: the usual one.
void SetVersionOfThread(int version);
// The next call of a function ("init_rank") by this thread's rank fails so. "join": whatever the
// result, the next communicator of this rank is never found by the others.
void FailNext(const std::string& function, engine::NcclResult result);
// From now on the rank's communicators report this, and what they have on streams hangs.
void FailLater(int rank, engine::NcclResult result);
// What is on streams from now on does not get on, as when a cable is pulled.
void Stall();
// Of now on, sums come out wrong: the first byte of what arrives is changed.
void Corrupt();

struct Counters {
  int communicators = 0;  // now
  int aborts = 0;
  int destroyed = 0;
  int collectives = 0;  // and groups of sends and receives
};
Counters counters();
// What a rank has sent another one, of all that has run on streams.
uint64_t BytesSent(int from, int to);

}  // namespace strata::fakes::nccl
