// A function with a stack of its own, that can stop in the middle and go on later.
#pragma once

#include <cstddef>

// Of functions in which fibers switch, or end: nothing orders that.
#define STRATA_NOT_SEEN_BY_TSAN __attribute__((no_sanitize("thread")))

namespace strata::fakes::cuda {

// A stack and what is on it. The sanitizers are told of every switch; to ThreadSanitizer fibers are
// threads that nothing orders but what says so (OrderBefore, OrderAfter). Making such a thread
// takes it 0.2 ms, so they are used again, by the same thread: a fiber must begin with OrderAfter()
// what made it, and what ends it must have done OrderAfter() its end.
class Fiber {
 public:
  Fiber();  // of the thread that calls
  Fiber(std::byte* stack, size_t size, void (*entry)());
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Leaves `from`, which is running, and goes on with this. Returns when somebody goes on with
  // `from`.
  void GoOn(Fiber& from);
  // At the start of an entry, which is STRATA_NOT_SEEN_BY_TSAN, as it never returns.
  void Arrive();
  // In place of the last GoOn() of a fiber that will not run again.
  void Leave(Fiber& from);
  // Before the end of a fiber that stands somewhere and will not go on.
  void Abandon() { owns_thread_ = false; }

 private:
  void* stack_pointer_ = nullptr;
  const void* stack_bottom_ = nullptr;
  size_t stack_size_ = 0;
  void* fake_stack_ = nullptr;  // AddressSanitizer's
  void* thread_ = nullptr;      // ThreadSanitizer's
  bool owns_thread_ = false;
  Fiber* came_from_ = nullptr;
};

// What a fiber did before OrderBefore(at) happens before what another does after OrderAfter(at).
void OrderBefore(void* at);
void OrderAfter(void* at);
// Between the two, ThreadSanitizer does not look at what this fiber does: the emulator's own data.
void IgnoreBegin();
void IgnoreEnd();

}  // namespace strata::fakes::cuda
