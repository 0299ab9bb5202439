// Preloaded: the agent of rank 1 ends before it has told anybody that it is there.
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>

namespace {

__attribute__((constructor)) void Die() {
  std::ifstream file("/proc/self/cmdline");
  const std::string words((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  constexpr std::string_view kRankOne("\0--rank\0001\0", 10);
  if (words.find("launch-rank") == std::string::npos) return;
  if (words.find(kRankOne) == std::string::npos) return;
  constexpr std::string_view kSaid = "agent: out of luck\n";
  (void)!write(STDERR_FILENO, kSaid.data(), kSaid.size());
  _exit(3);
}

}  // namespace
