// A kernel that refuses, as a container's profile does.
#pragma once

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <thread>
#include <vector>

namespace strata {

// From here on these system calls fail in this thread, and in those that it starts.
inline bool RefuseInThisThread(std::initializer_list<long> calls, int error_number) {
  std::vector<sock_filter> program = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr))};
  for (long call : calls) {
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(call), 0, 1));
    program.push_back(
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<uint32_t>(error_number)));
  }
  program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  sock_fprog filter = {.len = static_cast<unsigned short>(program.size()),
                       .filter = program.data()};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

// Runs `body` in a thread of its own where these system calls fail; false when that cannot be done.
inline bool RunRefused(std::initializer_list<long> calls, int error_number,
                       const std::function<void()>& body) {
  bool refused = false;
  std::jthread([&] {
    refused = RefuseInThisThread(calls, error_number);
    if (refused) body();
  }).join();
  return refused;
}

}  // namespace strata
