// The cpu device: an arena of its own, and a thread for each stream.
#include <fmt/format.h>
#include <pthread.h>

#include <atomic>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "aio/base/start_thread.h"
#include "tiering/arena.h"
#include "tiering/device.h"

namespace strata::tiering {
namespace {

class CpuEvent final : public DeviceEvent::State {
 public:
  void Signal(const Status& status) {
    {
      std::lock_guard lock(mutex_);
      status_ = status;
      time_ = Clock::now();
      done_.store(true, std::memory_order_release);
    }
    reached_.notify_all();
  }

  bool Done() const override { return done_.load(std::memory_order_acquire); }

  Status Wait() override {
    std::unique_lock lock(mutex_);
    reached_.wait(lock, [this] { return Done(); });
    return status_;
  }

  Clock::time_point Time() const override {
    STRATA_CHECK(Done());
    return time_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable reached_;
  std::atomic<bool> done_ = false;
  // Written before done_, and never after it.
  Status status_;
  Clock::time_point time_;
};

bool Contains(std::span<const std::byte> outer, std::span<const std::byte> inner) {
  auto begin = reinterpret_cast<uintptr_t>(outer.data());
  auto at = reinterpret_cast<uintptr_t>(inner.data());
  return at >= begin && inner.size() <= outer.size() && at - begin <= outer.size() - inner.size();
}

class CpuStream final : public DeviceStream {
 public:
  CpuStream(const std::string& name, std::span<std::byte> memory, std::atomic<int>* num_streams)
      : memory_(memory), num_streams_(num_streams) {
    num_streams_->fetch_add(1);
    Result<std::jthread> thread =
        StartThread("the thread of device stream '" + name + "'", [this, name] { Run(name); });
    if (thread.ok())
      thread_ = std::move(*thread);
    else
      not_started_ = thread.status();
  }

  ~CpuStream() override {
    {
      std::lock_guard lock(mutex_);
      closing_ = true;
    }
    added_.notify_one();
    if (thread_.joinable()) thread_.join();
    num_streams_->fetch_sub(1);
  }

  void CopyIn(std::span<std::byte> device_to, std::span<const std::byte> host_from) override {
    Copy(device_to, host_from, device_to, host_from);
  }

  void CopyOut(std::span<std::byte> host_to, std::span<const std::byte> device_from) override {
    Copy(host_to, device_from, device_from, host_to);
  }

  void Launch(std::function<Status(const StreamContext&)> function) override {
    Add({.run = [function = std::move(function)] { return function(StreamContext{}); }});
  }

  void WaitFor(const DeviceEvent& event) override {
    Add({.run = [event] { return event.Wait(); }});
  }

  DeviceEvent Record() override {
    auto event = std::make_shared<CpuEvent>();  // shared as DeviceEvent says
    Add({.event = event});
    return DeviceEvent(std::move(event));
  }

 private:
  struct Work {
    std::function<Status()> run = {};  // skipped once the stream has failed
    std::shared_ptr<CpuEvent> event = {};
  };

  void Copy(std::span<std::byte> to, std::span<const std::byte> from,
            std::span<const std::byte> device_side, std::span<const std::byte> host_side) {
    STRATA_CHECK(to.size() == from.size());
    STRATA_CHECK(Contains(memory_, device_side));
    STRATA_CHECK(to.empty() || !Contains(memory_, host_side));
    Add({.run = [to, from] {
      if (!to.empty()) std::memcpy(to.data(), from.data(), to.size());
      return OkStatus();
    }});
  }

  void Add(Work work) {
    if (!not_started_.ok()) {
      if (work.event) work.event->Signal(not_started_);
      return;
    }
    {
      std::lock_guard lock(mutex_);
      queue_.push_back(std::move(work));
    }
    added_.notify_one();
  }

  // Empty once the stream is closing and all its work is done.
  std::optional<Work> Next() {
    std::unique_lock lock(mutex_);
    added_.wait(lock, [this] { return closing_ || !queue_.empty(); });
    if (queue_.empty()) return std::nullopt;
    Work work = std::move(queue_.front());
    queue_.pop_front();
    return work;
  }

  void Run(const std::string& name) {
    // The kernel keeps 15 characters. The name is for people only: a failure changes nothing.
    pthread_setname_np(pthread_self(), name.substr(0, 15).c_str());
    Status status;
    while (std::optional<Work> work = Next()) {
      if (work->run && status.ok()) status = work->run();
      if (work->event) work->event->Signal(status);
    }
  }

  const std::span<std::byte> memory_;
  std::atomic<int>* const num_streams_;
  std::mutex mutex_;
  std::condition_variable added_;
  std::deque<Work> queue_;
  bool closing_ = false;
  Status not_started_;  // then the stream has failed from the start
  std::jthread thread_;
};

class CpuDevice final : public Device {
 public:
  explicit CpuDevice(Arena arena) : arena_(std::move(arena)) {}
  ~CpuDevice() override { STRATA_CHECK(num_streams_.load() == 0); }

  std::string name() const override { return "cpu"; }
  std::span<std::byte> memory() const override { return arena_.bytes(); }
  int memory_fd() const override { return arena_.fd(); }
  std::optional<uint32_t> numa_node() const override { return std::nullopt; }
  Result<std::unique_ptr<HostRegistration>> RegisterHostMemory(std::span<std::byte>) override {
    return std::make_unique<HostRegistration>();  // cores copy from anywhere
  }
  std::unique_ptr<DeviceStream> CreateStream(const std::string& name) override {
    return std::make_unique<CpuStream>(name, arena_.bytes(), &num_streams_);
  }

 private:
  Arena arena_;
  std::atomic<int> num_streams_ = 0;
};

}  // namespace

Result<std::unique_ptr<Device>> CreateCpuDevice(uint64_t budget_bytes, aio::Sharing sharing) {
  STRATA_ASSIGN_OR_RETURN(Arena arena, Arena::Create("device (cpu)", budget_bytes, sharing));
  return std::unique_ptr<Device>(std::make_unique<CpuDevice>(std::move(arena)));
}

}  // namespace strata::tiering
