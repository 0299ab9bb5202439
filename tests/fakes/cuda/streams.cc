// Streams and events of the emulated runtime: a stream is a thread with a queue.
#include <fmt/format.h>

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <thread>

#include "tests/fakes/cuda/grid.h"
#include "tests/fakes/cuda/machine.h"

namespace {

using strata::fakes::cuda::DeviceMemory;
using strata::fakes::cuda::Machine;
using Clock = std::chrono::steady_clock;

// How often it was recorded, and how often streams reached that.
struct EventState {
  std::mutex mutex;
  std::condition_variable reached_more;
  uint64_t recorded = 0;
  uint64_t reached = 0;
  Clock::time_point time;

  void Reach(uint64_t number) {
    {
      std::lock_guard lock(mutex);
      if (number > reached) reached = number;
      time = Clock::now();
    }
    reached_more.notify_all();
  }
  void Await(uint64_t number) {
    std::unique_lock lock(mutex);
    reached_more.wait(lock, [&] { return reached >= number; });
  }
  uint64_t last_recorded() {
    std::lock_guard lock(mutex);
    return recorded;
  }
};

}  // namespace

struct CUevent_st {
  std::shared_ptr<EventState> state = std::make_shared<EventState>();
};

struct CUstream_st {
  CUstream_st() : thread([this] { Run(); }) { ++Machine::Get().streams; }
  ~CUstream_st() {
    {
      std::lock_guard lock(mutex);
      closing = true;
    }
    changed.notify_all();
    thread.join();
    --Machine::Get().streams;
  }

  void Add(std::function<void()> work) {
    {
      std::lock_guard lock(mutex);
      queue.push_back(std::move(work));
    }
    changed.notify_all();
  }
  bool idle() {
    std::lock_guard lock(mutex);
    return queue.empty();
  }
  void AwaitIdle() {
    std::unique_lock lock(mutex);
    changed.wait(lock, [this] { return queue.empty(); });
  }

  void Run() {
    std::unique_lock lock(mutex);
    while (true) {
      changed.wait(lock, [this] { return closing || !queue.empty(); });
      if (queue.empty()) return;
      std::function<void()> work = queue.front();
      lock.unlock();
      work();
      work = nullptr;
      lock.lock();
      queue.pop_front();
      changed.notify_all();
    }
  }

  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::function<void()>> queue;  // its first is under way
  bool closing = false;
  std::thread thread;
};

#define ENTER() \
  if (const cudaError_t error = Machine::Get().Enter(__func__); error != cudaSuccess) return error

cudaError_t strata::fakes::cuda::Enqueue(cudaStream_t stream, std::function<void()> work) {
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  if (Machine::Get().broken() != cudaSuccess) return Machine::Get().broken();
  stream->Add([work = std::move(work)] {
    if (Machine::Get().broken() != cudaSuccess) return;
    const DeviceMemory::Access access(Machine::Get().memory);
    work();
  });
  return cudaSuccess;
}

cudaError_t strata::fakes::cuda::LaunchGrid(dim3 blocks, dim3 threads, size_t shared_bytes,
                                            cudaStream_t stream, const void* kernel,
                                            std::function<void()> body) {
  if (const cudaError_t error = Machine::Get().Enter("cudaLaunchKernel"); error != cudaSuccess)
    return error;
  const uint64_t num_threads = uint64_t{threads.x} * threads.y * threads.z;
  if (num_threads == 0 || num_threads > 1024 || threads.z > 64 || blocks.x == 0 || blocks.y == 0 ||
      blocks.z == 0 || blocks.y > 65535 || blocks.z > 65535 || shared_bytes > (227u << 10))
    return cudaErrorInvalidConfiguration;
  const Grid grid = {blocks, threads, shared_bytes, Machine::Get().order, Machine::Get().seed};
  return Enqueue(stream, [grid, kernel, body = std::move(body)] {
    ++Machine::Get().kernels;
    if (const cudaError_t error = Machine::Get().EnterKernel(); error != cudaSuccess)
      return Machine::Get().Break(error);
    const std::string wrong = RunGrid(grid, body);
    if (wrong.empty()) return;
    const char* name = nullptr;
    (void)cudaFuncGetName(&name, kernel);
    fmt::print(stderr, "emulated CUDA: kernel {}: {}\n", name, wrong);
    Machine::Get().Break(cudaErrorLaunchFailure);
  });
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned, int) {
  ENTER();
  *stream = new CUstream_st;
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  ENTER();
  *stream = new CUstream_st;
  return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  ENTER();
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  stream->AwaitIdle();
  return Machine::Get().broken();
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  ENTER();
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  return stream->idle() ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  ENTER();
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  ++Machine::Get().waits;
  // As CUDA has it, what was recorded last before this call; an event never recorded is done.
  stream->Add(
      [state = event->state, number = event->state->last_recorded()] { state->Await(number); });
  return cudaSuccess;
}
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  ENTER();
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  stream->Add([function, data] {
    if (Machine::Get().broken() == cudaSuccess) function(data);
  });
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  ENTER();
  *event = new CUevent_st;
  ++Machine::Get().events;
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) {
  return cudaEventCreateWithFlags(event, cudaEventDefault);
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  --Machine::Get().events;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  ENTER();
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  uint64_t number = 0;
  {
    std::lock_guard lock(event->state->mutex);
    number = ++event->state->recorded;
  }
  stream->Add([state = event->state, number] { state->Reach(number); });
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  ENTER();
  std::lock_guard lock(event->state->mutex);
  return event->state->reached == event->state->recorded ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  ENTER();
  event->state->Await(event->state->last_recorded());
  return Machine::Get().broken();
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  ENTER();
  if (cudaEventQuery(start) != cudaSuccess || cudaEventQuery(end) != cudaSuccess)
    return cudaErrorNotReady;
  *milliseconds =
      std::chrono::duration<float, std::milli>(end->state->time - start->state->time).count();
  return cudaSuccess;
}

namespace {

// Whether `kind` is what the addresses say.
bool Fits(const void* to, const void* from, size_t size, cudaMemcpyKind kind) {
  DeviceMemory& memory = Machine::Get().memory;
  const bool to_device = memory.Holds(to, size), from_device = memory.Holds(from, size);
  if (!to_device && memory.Touches(to, size)) return false;
  if (!from_device && memory.Touches(from, size)) return false;
  if (kind == cudaMemcpyDefault) return true;
  return to_device == (kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice) &&
         from_device == (kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice);
}

void CountIfPageable(const void* at, size_t size) {
  Machine& machine = Machine::Get();
  if (!machine.memory.Holds(at, size) && !machine.pinned.Holds(at, size)) ++machine.pageable;
}

cudaError_t Copy2D(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                   size_t height, cudaMemcpyKind kind, cudaStream_t stream) {
  if (width == 0 || height == 0) return cudaSuccess;
  if (to_pitch < width || from_pitch < width) return cudaErrorInvalidValue;
  const size_t to_size = (height - 1) * to_pitch + width;
  const size_t from_size = (height - 1) * from_pitch + width;
  if (!Fits(to, from, 1, kind) || !Fits(to, from, std::min(to_size, from_size), kind))
    return cudaErrorInvalidValue;
  CountIfPageable(to, to_size);
  CountIfPageable(from, from_size);
  ++Machine::Get().copies;
  return strata::fakes::cuda::Enqueue(stream, [=] {
    for (size_t row = 0; row < height; ++row)
      std::memcpy(static_cast<char*>(to) + row * to_pitch,
                  static_cast<const char*>(from) + row * from_pitch, width);
  });
}

}  // namespace

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t size, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  ENTER();
  return Copy2D(to, size, from, size, size, 1, kind, stream);
}
cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch,
                              size_t width, size_t height, cudaMemcpyKind kind,
                              cudaStream_t stream) {
  ENTER();
  return Copy2D(to, to_pitch, from, from_pitch, width, height, kind, stream);
}
cudaError_t cudaMemsetAsync(void* memory, int value, size_t size, cudaStream_t stream) {
  ENTER();
  if (size == 0) return cudaSuccess;
  if (!Machine::Get().memory.Holds(memory, size)) return cudaErrorInvalidValue;
  return strata::fakes::cuda::Enqueue(stream, [=] { std::memset(memory, value, size); });
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t size, cudaMemcpyKind kind) {
  ENTER();
  CUstream_st stream;
  const cudaError_t error = Copy2D(to, size, from, size, size, 1, kind, &stream);
  stream.AwaitIdle();
  return error;
}
cudaError_t cudaMemset(void* memory, int value, size_t size) {
  ENTER();
  CUstream_st stream;
  const cudaError_t error = cudaMemsetAsync(memory, value, size, &stream);
  stream.AwaitIdle();
  return error;
}
