// What this process uses, as the kernel sees it.
#pragma once

#include <fcntl.h>
#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "aio/base/check.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
extern "C" size_t __sanitizer_get_current_allocated_bytes();  // gcc brings no header for it
#endif

namespace strata {

inline int NumOpenDescriptors() {
  std::filesystem::directory_iterator open("/proc/self/fd");
  return static_cast<int>(std::distance(begin(open), end(open)));
}

// As long as this lives, the process can open `num_more` more descriptors and then none.
class DescriptorLimit {
 public:
  explicit DescriptorLimit(int num_more) {
    STRATA_CHECK(getrlimit(RLIMIT_NOFILE, &before_) == 0);
    rlim_t limit = 0;
    for (int num_free = 0; num_free < num_more || IsOpen(limit); ++limit) {
      if (!IsOpen(limit)) ++num_free;
    }
    rlimit low = {.rlim_cur = limit, .rlim_max = before_.rlim_max};
    STRATA_CHECK(setrlimit(RLIMIT_NOFILE, &low) == 0);
  }
  DescriptorLimit(const DescriptorLimit&) = delete;
  ~DescriptorLimit() { STRATA_CHECK(setrlimit(RLIMIT_NOFILE, &before_) == 0); }

 private:
  static bool IsOpen(rlim_t fd) { return fcntl(static_cast<int>(fd), F_GETFD) != -1; }

  rlimit before_ = {};
};

// What is allocated on the heap; a sanitizer has one of its own.
inline int64_t HeapBytes() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return static_cast<int64_t>(__sanitizer_get_current_allocated_bytes());
#else
  return static_cast<int64_t>(mallinfo2().uordblks);
#endif
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
