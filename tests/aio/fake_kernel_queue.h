// A queue of the kernel that does what a test says: refuses, takes a part, is slow, answers in any
// order, and lies about how much it moved. The bytes are real: pread and pwrite.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "aio/base/check.h"
#include "aio/internal/kernel_queue.h"
#include "aio/internal/posix_engine.h"

namespace strata::aio {

// What the kernel does. Thread-safe; shared by the queues of an engine.
class FakeKernel {
 public:
  // How many of the prepared entries it takes, or a negative errno.
  using OnSubmit = std::function<int(size_t num_prepared)>;

  void BehaveLike(OnSubmit submit, TransferFunction transfer) {
    std::lock_guard lock(mutex_);
    submit_ = std::move(submit);
    transfer_ = std::move(transfer);
  }
  int Submit(size_t num_prepared) {
    std::lock_guard lock(mutex_);
    ++num_submits;
    return num_prepared == 0 ? 0 : submit_(num_prepared);
  }
  int64_t Transfer(const IoTransfer& transfer) {
    std::lock_guard lock(mutex_);
    return transfer_(transfer);
  }
  static int TakeAll(size_t num_prepared) { return static_cast<int>(num_prepared); }

  // While this is true nothing completes but wake-ups.
  std::atomic<bool> holds = false;
  void Release() {
    holds = false;
    holds.notify_all();
  }

  std::atomic<size_t> most_in_kernel = 0;  // transfers of one queue
  std::atomic<uint64_t> num_submits = 0;

 private:
  std::mutex mutex_;
  OnSubmit submit_ = TakeAll;
  TransferFunction transfer_ = TransferBySystemCall;
};

class FakeKernelQueue final : public KernelQueue {
 public:
  FakeKernelQueue(FakeKernel& kernel, uint32_t depth, uint64_t seed)
      : kernel_(kernel), is_in_use_(depth, false), random_(seed) {}
  // A queue that ends with something in the kernel would write to memory that is no more.
  ~FakeKernelQueue() override { STRATA_CHECK(in_kernel_.empty() && completed_.empty()); }

  void BindToThread() override {}
  void Prepare(const IoTransfer& transfer, uint64_t tag) override {
    STRATA_CHECK(!is_in_use_.at(tag));
    is_in_use_[tag] = true;
    prepared_.push_back({tag, transfer});
  }
  void PrepareWake() override { prepared_.push_back({kWakeTag, {}}); }

  int SubmitAndWait(uint32_t wait_for) override {
    int taken = kernel_.Submit(prepared_.size());
    if (taken < 0) return taken;
    auto end = prepared_.begin() + std::min<ptrdiff_t>(taken, std::ssize(prepared_));
    in_kernel_.insert(in_kernel_.end(), prepared_.begin(), end);
    prepared_.erase(prepared_.begin(), end);
    CountInKernel();
    while (prepared_.empty() && completed_.size() < wait_for) CompleteOne();
    return 0;
  }

  std::vector<uint64_t> TakeBack() override {
    std::vector<uint64_t> tags;
    for (const Entry& entry : prepared_) {
      tags.push_back(entry.tag);
      Free(entry.tag);
    }
    prepared_.clear();
    return tags;
  }

  size_t Reap(std::span<KernelCompletion> completions) override {
    size_t count = std::min(completions.size(), completed_.size());
    std::copy_n(completed_.begin(), count, completions.begin());
    completed_.erase(completed_.begin(), completed_.begin() + static_cast<ptrdiff_t>(count));
    for (const KernelCompletion& completion : completions.first(count)) Free(completion.tag);
    return count;
  }

  void Wake() override {
    std::lock_guard lock(mutex_);
    is_woken_ = true;
    changed_.notify_all();
  }
  const std::vector<std::string>& notes() const override { return notes_; }

 private:
  struct Entry {
    uint64_t tag;
    IoTransfer transfer;
  };

  void Free(uint64_t tag) {
    if (tag != kWakeTag) is_in_use_[tag] = false;
  }
  void CountInKernel() {
    size_t transfers = 0;
    for (const Entry& entry : in_kernel_) transfers += entry.tag != kWakeTag;
    size_t seen = kernel_.most_in_kernel;
    while (transfers > seen && !kernel_.most_in_kernel.compare_exchange_weak(seen, transfers)) {
    }
  }

  // One that can complete, chosen by chance; waits until there is one.
  void CompleteOne() {
    std::vector<size_t> able;
    while ((able = Able()).empty()) WaitForChange();
    size_t chosen = able[random_() % able.size()];
    Entry entry = in_kernel_[chosen];
    in_kernel_.erase(in_kernel_.begin() + static_cast<ptrdiff_t>(chosen));
    int64_t result = entry.tag == kWakeTag ? 8 : kernel_.Transfer(entry.transfer);
    completed_.push_back({entry.tag, result});
    std::lock_guard lock(mutex_);
    if (entry.tag == kWakeTag) is_woken_ = false;
  }
  std::vector<size_t> Able() {
    std::lock_guard lock(mutex_);
    std::vector<size_t> able;
    for (size_t i = 0; i < in_kernel_.size(); ++i) {
      if (in_kernel_[i].tag == kWakeTag ? is_woken_ : !kernel_.holds) able.push_back(i);
    }
    return able;
  }
  // A kernel that holds transfers is asked to let go; without them only Wake() changes anything.
  void WaitForChange() {
    bool waits_for_release =
        std::ranges::any_of(in_kernel_, [](const Entry& entry) { return entry.tag != kWakeTag; });
    if (waits_for_release) return kernel_.holds.wait(true);
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return is_woken_; });
  }

  FakeKernel& kernel_;
  std::vector<bool> is_in_use_;
  std::mt19937_64 random_;
  std::vector<Entry> prepared_;
  std::vector<Entry> in_kernel_;
  std::vector<KernelCompletion> completed_;
  const std::vector<std::string> notes_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool is_woken_ = false;
};

}  // namespace strata::aio
