// Where kernels run: memory, streams, events, asynchronous copies.
//
// A stream does what is put on it in order, asynchronously to the caller; streams run beside each
// other; an event marks a point on one stream that another stream or the host can wait for. The
// `cpu` device is a real device: it has an arena and a budget of its own, and each stream is a
// thread. The `cuda` device (cuda_device.h) is an NVIDIA GPU. Its memory cannot be dereferenced by
// the host, so nobody above this layer does.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "aio/base/status.h"
#include "aio/io_buffer.h"

namespace strata::tiering {

using Clock = std::chrono::steady_clock;

// A point on a stream. Copyable; cheap. Thread-safe.
class DeviceEvent {
 public:
  class State {
   public:
    virtual ~State() = default;
    virtual bool Done() const = 0;
    virtual Status Wait() = 0;
    virtual Clock::time_point Time() const = 0;
  };

  DeviceEvent() = default;  // already done
  explicit DeviceEvent(std::shared_ptr<State> state) : state_(std::move(state)) {}

  bool done() const { return !state_ || state_->Done(); }
  // Blocks the calling thread until the stream has reached the event. Returns the first failure of
  // anything that was put on the stream before it.
  Status Wait() const { return state_ ? state_->Wait() : OkStatus(); }
  // When the stream reached it. Only once done().
  Clock::time_point time() const { return state_ ? state_->Time() : Clock::time_point(); }
  State* state() const { return state_.get(); }

 private:
  std::shared_ptr<State> state_;  // shared by the stream that signals it and all who wait
};

// What a launched function may need of its stream.
struct StreamContext {
  void* native_stream = nullptr;  // cudaStream_t of a cuda device, nullptr on the cpu device
};

// Enqueues and returns. One thread at a time puts work on a stream.
class DeviceStream {
 public:
  virtual ~DeviceStream() = default;

  // Copies between this device's memory and host memory; both stay valid until a later event.
  virtual void CopyIn(std::span<std::byte> device_to, std::span<const std::byte> host_from) = 0;
  virtual void CopyOut(std::span<std::byte> host_to, std::span<const std::byte> device_from) = 0;
  // On the cpu device the function runs on the stream's thread; on a cuda device it is called at
  // once and enqueues kernels on native_stream. After a failure the stream skips all later work,
  // and its events report the failure.
  virtual void Launch(std::function<Status(const StreamContext&)> function) = 0;
  // Work put on this stream after this call starts only once `event` is done. A failed event fails
  // this stream, too.
  virtual void WaitFor(const DeviceEvent& event) = 0;
  virtual DeviceEvent Record() = 0;
};

// Host memory that a device has been told of; it forgets it when this ends.
class HostRegistration {
 public:
  virtual ~HostRegistration() = default;
};

// Thread-safe. Outlives its streams and what was registered with it.
class Device {
 public:
  virtual ~Device() = default;
  virtual std::string name() const = 0;  // "cpu", "cuda:0"
  // The whole budget, as one range. Of a cuda device: device addresses.
  virtual std::span<std::byte> memory() const = 0;
  // What other processes map to see memory(); -1 where they cannot.
  virtual int memory_fd() const = 0;
  // The NUMA node (as the OS counts) that is nearest, where there is one and the machine tells.
  virtual std::optional<uint32_t> numa_node() const = 0;
  // Without this, copies from and to the memory are right, but on a cuda device they are slow and
  // make the caller wait. The memory outlives the registration; registered ranges do not overlap.
  virtual Result<std::unique_ptr<HostRegistration>> RegisterHostMemory(
      std::span<std::byte> memory) = 0;
  // What cannot be had for it (a thread) makes a stream that has failed, as after a Launch().
  virtual std::unique_ptr<DeviceStream> CreateStream(const std::string& name) = 0;
};

// A device made of host cores, with `budget_bytes` of memory of its own: shared when other ranks of
// this machine are to read it in collectives.
Result<std::unique_ptr<Device>> CreateCpuDevice(uint64_t budget_bytes,
                                                aio::Sharing sharing = aio::Sharing::kPrivate);

}  // namespace strata::tiering
