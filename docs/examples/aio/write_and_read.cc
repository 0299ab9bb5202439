// Writes 64 MiB to a new file past the page cache, makes them durable and reads them back, with
// two reads in flight.  Usage: write_and_read FILE
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>

#include "aio/base/units.h"
#include "aio/file.h"
#include "aio/io_buffer.h"
#include "aio/io_engine.h"

using namespace strata;
using Clock = std::chrono::steady_clock;

void Print(const char* what, uint64_t size_bytes, Clock::time_point start) {
  std::chrono::duration<double> elapsed = Clock::now() - start;
  std::printf("%s %.2f GB/s\n", what, static_cast<double>(size_bytes) / 1e9 / elapsed.count());
}

Status WriteAndRead(const std::string& path) {
  constexpr uint64_t kSizeBytes = 64_MiB, kHalfBytes = kSizeBytes / 2;
  // Huge pages: a drive needs one address for 2 MiB of them, and 512 for small ones.
  STRATA_ASSIGN_OR_RETURN(aio::HugeMemory memory, aio::HugeMemory::Map(2 * kSizeBytes));
  auto out = memory.bytes().first(kSizeBytes), in = memory.bytes().last(kSizeBytes);
  for (size_t i = 0; i < kSizeBytes; ++i) out[i] = std::byte(i * i >> 8);

  STRATA_ASSIGN_OR_RETURN(aio::File file,
                          aio::File::Open(path, {.access = aio::FileAccess::kReadWrite,
                                                 .create = aio::FileCreate::kCreateNew}));
  STRATA_RETURN_IF_ERROR(file.Preallocate(kSizeBytes));  // a full disk is found here, not later
  STRATA_ASSIGN_OR_RETURN(auto engine,
                          aio::IoEngine::Create({.registered_memory = memory.bytes()}));

  // One request of two ranges. The memory is the engine's until Wait() returns.
  std::array<aio::WriteRange, 2> ranges = {
      {{&file, 0, out.first(kHalfBytes)}, {&file, kHalfBytes, out.last(kHalfBytes)}}};
  Clock::time_point start = Clock::now();
  STRATA_RETURN_IF_ERROR(engine->StartWrites(ranges).Wait());
  STRATA_RETURN_IF_ERROR(file.SyncData());  // only now would it survive a power cut
  Print("written", kSizeBytes, start);

  start = Clock::now();
  aio::RequestOptions soon = {.deadline = start + std::chrono::seconds(30)};
  aio::IoTicket first = engine->StartRead(file, 0, in.first(kHalfBytes), soon);
  aio::IoTicket second = engine->StartRead(file, kHalfBytes, in.last(kHalfBytes), soon);
  STRATA_RETURN_IF_ERROR(first.Wait());
  STRATA_RETURN_IF_ERROR(second.Wait());
  Print("read", kSizeBytes, start);
  return std::ranges::equal(out, in) ? OkStatus() : DataLoss("other bytes came back");
}

int main(int argc, char** argv) {
  Status status = argc == 2 ? WriteAndRead(argv[1]) : InvalidArgument("usage: write_and_read FILE");
  if (!status.ok()) std::fprintf(stderr, "error: %s\n", status.ToString().c_str());
  return status.ok() ? 0 : 1;
}
