#include "engine/kernels/thread_pool.h"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "aio/base/check.h"
#include "aio/base/start_thread.h"

namespace strata::engine {
namespace {

// A few microseconds: the gap between two operations of a layer. Longer would take the core from
// the lanes that move bytes.
constexpr int kSpins = 200;

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

template <typename Predicate>
bool SpinUntil(Predicate done) {
  for (int i = 0; i < kSpins; ++i) {
    if (done()) return true;
    Pause();
  }
  return false;
}

}  // namespace

struct ThreadPool::State {
  // High half: the number of the job; low half: its tiles not yet claimed. Claiming is a
  // compare-and-swap, so a thread that slept through the end of a job cannot claim from the next
  // with what it read about the last: the job's number has changed.
  std::atomic<uint64_t> job{0};
  // Of the current job. Written while no tile is left to claim, read before a claim that succeeds
  // only if the job is still the same: atomics because the reader of a claim that fails may read
  // while the next job is being written.
  std::atomic<TileFunction> tile{nullptr};
  std::atomic<void*> context{nullptr};
  std::atomic<uint64_t> num_tiles{0};
  std::atomic<uint64_t> num_done{0};

  std::mutex mutex;  // guards the fields below
  std::condition_variable wake, done;
  size_t num_asleep = 0;
  bool stopping = false;

  std::vector<std::jthread> workers;

  // No tile runs any more: who waits for one learns that none will come.
  ~State() {
    {
      std::lock_guard lock(mutex);
      stopping = true;
    }
    wake.notify_all();
    workers.clear();  // joins
  }

  static bool HasTiles(uint64_t job_value) { return static_cast<uint32_t>(job_value) != 0; }

  // Runs tiles of the current job until none is left to claim.
  void Work(uint32_t thread) {
    uint64_t current = job.load(std::memory_order_acquire);
    while (HasTiles(current)) {
      const TileFunction function = tile.load(std::memory_order_relaxed);
      void* const argument = context.load(std::memory_order_relaxed);
      const uint64_t total = num_tiles.load(std::memory_order_relaxed);
      if (!job.compare_exchange_weak(current, current - 1, std::memory_order_acq_rel)) continue;
      function(argument, total - static_cast<uint32_t>(current), thread);
      if (num_done.fetch_add(1, std::memory_order_acq_rel) + 1 == total) {
        std::lock_guard lock(mutex);
        done.notify_one();
      }
      current = job.load(std::memory_order_acquire);
    }
  }

  // False when the pool ends.
  bool WaitForTiles() {
    const auto has_tiles = [this] { return HasTiles(job.load(std::memory_order_acquire)); };
    if (SpinUntil(has_tiles)) return true;
    std::unique_lock lock(mutex);
    ++num_asleep;
    wake.wait(lock, [&] { return stopping || has_tiles(); });
    --num_asleep;
    return !stopping;
  }

  void Publish(size_t count, TileFunction function, void* argument) {
    tile.store(function, std::memory_order_relaxed);
    context.store(argument, std::memory_order_relaxed);
    num_tiles.store(count, std::memory_order_relaxed);
    num_done.store(0, std::memory_order_relaxed);
    const uint64_t number = (job.load(std::memory_order_relaxed) >> 32) + 1;
    job.store(number << 32 | count, std::memory_order_release);
    std::unique_lock lock(mutex);
    size_t to_wake = std::min(num_asleep, count - 1);
    lock.unlock();
    for (; to_wake > 0; --to_wake) wake.notify_one();
  }

  void WaitUntilDone(size_t count) {
    const auto all_done = [&] { return num_done.load(std::memory_order_acquire) == count; };
    if (SpinUntil(all_done)) return;
    std::unique_lock lock(mutex);
    done.wait(lock, all_done);
  }
};

Result<ThreadPool> ThreadPool::Create(uint32_t num_threads) {
  STRATA_CHECK(num_threads >= 1);
  auto state = std::make_unique<State>();
  for (uint32_t thread = 1; thread < num_threads; ++thread) {
    STRATA_ASSIGN_OR_RETURN(
        std::jthread worker,
        StartThread("a thread that computes ([train] threads)", [pool = state.get(), thread] {
          while (pool->WaitForTiles()) pool->Work(thread);
        }));
    state->workers.push_back(std::move(worker));
  }
  return ThreadPool(std::move(state));
}

ThreadPool::ThreadPool(std::unique_ptr<State> state) : state_(std::move(state)) {}
ThreadPool::ThreadPool(ThreadPool&& other) noexcept = default;
ThreadPool& ThreadPool::operator=(ThreadPool&& other) noexcept = default;
ThreadPool::~ThreadPool() = default;

uint32_t ThreadPool::num_threads() const {
  return static_cast<uint32_t>(state_->workers.size()) + 1;
}

void ThreadPool::Run(size_t num_tiles, TileFunction tile, void* context) {
  STRATA_CHECK(num_tiles < UINT32_MAX);
  if (state_->workers.empty() || num_tiles <= 1) {
    for (size_t i = 0; i < num_tiles; ++i) tile(context, i, 0);
    return;
  }
  state_->Publish(num_tiles, tile, context);
  state_->Work(0);
  state_->WaitUntilDone(num_tiles);
}

}  // namespace strata::engine
