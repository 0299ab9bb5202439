#include "aio/bench/bench_memory.h"

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <string>

#include "aio/base/units.h"
#include "aio/bench/pattern.h"
#include "aio/file.h"

namespace strata::aio {
namespace {

// A mapping in /proc/self/smaps begins with a line "7f00a000-7f00b000 rw-p ...".
bool ParseMapping(const char* line, uint64_t& begin, uint64_t& end) {
  char space = 0;
  return std::sscanf(line, "%" SCNx64 "-%" SCNx64 "%c", &begin, &end, &space) == 3 && space == ' ';
}

}  // namespace

Result<HugeMemory> MakeBenchMemory(uint64_t size_bytes) {
  STRATA_ASSIGN_OR_RETURN(HugeMemory memory, HugeMemory::Map(size_bytes));
  FillPattern(memory.bytes(), {.seed = 1});
  return memory;
}

// Mappings that lie side by side may be shown as one, with more than was asked about.
uint64_t HugePageBytes(std::span<const std::byte> memory) {
  Result<std::string> smaps = ReadSmallFile("/proc/self/smaps", 64_MiB);
  if (!smaps.ok()) return 0;
  const uint64_t first = reinterpret_cast<uintptr_t>(memory.data()), last = first + memory.size();
  uint64_t huge_bytes = 0, begin = 0, end = 0;
  for (size_t at = 0; at < smaps->size(); at = smaps->find('\n', at) + 1) {
    const char* line = smaps->data() + at;
    uint64_t kib = 0;
    if (ParseMapping(line, begin, end) || end <= first || begin >= last) continue;
    if (std::sscanf(line, "AnonHugePages: %" SCNu64 " kB", &kib) == 1) huge_bytes += kib << 10;
  }
  return std::min<uint64_t>(huge_bytes, memory.size());
}

}  // namespace strata::aio
