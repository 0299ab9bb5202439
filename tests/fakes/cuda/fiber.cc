#include "tests/fakes/cuda/fiber.h"

#include <cstdint>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
extern "C" void AnnotateIgnoreReadsBegin(const char*, int);
extern "C" void AnnotateIgnoreReadsEnd(const char*, int);
extern "C" void AnnotateIgnoreWritesBegin(const char*, int);
extern "C" void AnnotateIgnoreWritesEnd(const char*, int);
#endif

#if !defined(__x86_64__)
#error "the emulator's fibers are written for x86-64"
#endif

// void strata_switch_stacks(void** save, void* to): what a call must keep (System V ABI, 3.2.1)
// goes on the old stack, and comes from the new one.
asm(R"(
.text
.type strata_switch_stacks, @function
strata_switch_stacks:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size strata_switch_stacks, . - strata_switch_stacks
)");
extern "C" void strata_switch_stacks(void** save, void* to);

namespace strata::fakes::cuda {

#if defined(__SANITIZE_THREAD__)
namespace {

// ThreadSanitizer's threads that no fiber of this thread has now. It knows 8128 at once.
class FreeThreads {
 public:
  FreeThreads() = default;
  FreeThreads(const FreeThreads&) = delete;
  FreeThreads& operator=(const FreeThreads&) = delete;
  ~FreeThreads() {
    for (void* thread : threads_) __tsan_destroy_fiber(thread);
  }
  void* Take() {
    if (threads_.empty()) return __tsan_create_fiber(0);
    void* thread = threads_.back();
    threads_.pop_back();
    return thread;
  }
  void Keep(void* thread) {
    if (threads_.size() >= kMostKept) return __tsan_destroy_fiber(thread);
    threads_.push_back(thread);
  }

 private:
  static constexpr size_t kMostKept = 256;
  std::vector<void*> threads_;
};

thread_local FreeThreads free_threads;

}  // namespace
#endif

Fiber::Fiber() {
#if defined(__SANITIZE_THREAD__)
  thread_ = __tsan_get_current_fiber();
#endif
}

Fiber::Fiber(std::byte* stack, size_t size, void (*entry)())
    : stack_bottom_(stack), stack_size_(size) {
  // As if strata_switch_stacks had been called by entry's caller: six registers, then the address
  // to return to, then one more word, so that entry finds the stack as after a call.
  auto* top = reinterpret_cast<uintptr_t*>(stack + size);
  top[-1] = 0;
  top[-2] = reinterpret_cast<uintptr_t>(entry);
  for (int i = 3; i <= 8; ++i) top[-i] = 0;
  stack_pointer_ = top - 8;
#if defined(__SANITIZE_THREAD__)
  thread_ = free_threads.Take();
  owns_thread_ = true;
#endif
}

Fiber::~Fiber() {
#if defined(__SANITIZE_THREAD__)
  if (owns_thread_) free_threads.Keep(thread_);
#endif
}

STRATA_NOT_SEEN_BY_TSAN void Fiber::GoOn(Fiber& from) {
  came_from_ = &from;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&from.fake_stack_, stack_bottom_, stack_size_);
#endif
#if defined(__SANITIZE_THREAD__)
  __tsan_switch_to_fiber(thread_, __tsan_switch_to_fiber_no_sync);
#endif
  strata_switch_stacks(&from.stack_pointer_, stack_pointer_);
  from.Arrive();
}

STRATA_NOT_SEEN_BY_TSAN void Fiber::Arrive() {
#if defined(__SANITIZE_ADDRESS__)
  const void* bottom = nullptr;
  size_t size = 0;
  __sanitizer_finish_switch_fiber(fake_stack_, &bottom, &size);
  if (came_from_ != nullptr && came_from_->stack_bottom_ == nullptr) {
    came_from_->stack_bottom_ = bottom;
    came_from_->stack_size_ = size;
  }
#endif
}

STRATA_NOT_SEEN_BY_TSAN void Fiber::Leave(Fiber& from) {
  came_from_ = &from;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(nullptr, stack_bottom_, stack_size_);
#endif
#if defined(__SANITIZE_THREAD__)
  __tsan_switch_to_fiber(thread_, __tsan_switch_to_fiber_no_sync);
#endif
  strata_switch_stacks(&from.stack_pointer_, stack_pointer_);
}

void OrderBefore([[maybe_unused]] void* at) {
#if defined(__SANITIZE_THREAD__)
  __tsan_release(at);
#endif
}

void OrderAfter([[maybe_unused]] void* at) {
#if defined(__SANITIZE_THREAD__)
  __tsan_acquire(at);
#endif
}

void IgnoreBegin() {
#if defined(__SANITIZE_THREAD__)
  AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
  AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
#endif
}

void IgnoreEnd() {
#if defined(__SANITIZE_THREAD__)
  AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
  AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
#endif
}

}  // namespace strata::fakes::cuda
