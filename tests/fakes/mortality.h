// Sudden death at a chosen moment, for tests of what survives it.
//
// A program that links this counts moments: just before and just after each call that makes
// something durable or takes it away (fsync, fdatasync, rename, unlink, rmdir, mkdir, ftruncate),
// and each request to an I/O engine that was made mortal. A process that is told to live for so
// many moments kills itself in the one after, by SIGKILL: no destructor, no flush, no last word.
#pragma once

#include <cstdint>
#include <memory>

#include "aio/io_engine.h"

namespace strata::fakes {

// From now on. Until it is called, a process lives.
void LiveFor(uint64_t num_moments);
// How many moments there were so far.
uint64_t NumMoments();

// Passes everything on to `engine`; each write is a moment before it starts and one after, each
// read one before. Those that are in flight when the process dies may be done or not.
std::unique_ptr<aio::IoEngine> MakeMortal(std::unique_ptr<aio::IoEngine> engine);

}  // namespace strata::fakes
