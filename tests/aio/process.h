// What this process uses, as the kernel sees it.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace strata {

inline int NumOpenDescriptors() {
  std::filesystem::directory_iterator open("/proc/self/fd");
  return static_cast<int>(std::distance(begin(open), end(open)));
}

inline int64_t ResidentBytes() {
  int64_t total_pages = 0, resident_pages = 0;
  std::ifstream("/proc/self/statm") >> total_pages >> resident_pages;
  return resident_pages * sysconf(_SC_PAGESIZE);
}

inline int64_t MappedBytes() {
  int64_t total_pages = 0;
  std::ifstream("/proc/self/statm") >> total_pages;
  return total_pages * sysconf(_SC_PAGESIZE);
}

}  // namespace strata
