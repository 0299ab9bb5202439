// A fixed set of threads for cutting one operation into tiles.
//
// Tiles are handed out one by one, so a thread that the machine takes away delays one tile, not a
// share of the work. What a tile computes must not depend on who runs it or how many threads there
// are; then neither do the bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>

#include "aio/base/status.h"

namespace strata::engine {

// One caller at a time; the caller works along. Give each lane a pool of its own.
class ThreadPool {
 public:
  // `num_threads` counts the caller: 1 starts no thread. kResourceExhausted where the process may
  // have no more of them.
  static Result<ThreadPool> Create(uint32_t num_threads);
  ThreadPool(ThreadPool&& other) noexcept;
  ThreadPool& operator=(ThreadPool&& other) noexcept;
  ~ThreadPool();

  uint32_t num_threads() const;

  // Calls tile(i), or tile(i, thread) with thread < num_threads() for memory that each thread has
  // for itself, for each i < num_tiles once, on any thread in any order, and returns when all are
  // done. A tile does not call ParallelFor.
  template <typename Tile>
  void ParallelFor(size_t num_tiles, Tile&& tile) {
    using Function = std::remove_reference_t<Tile>;
    Run(num_tiles, &Call<Function>, const_cast<std::remove_const_t<Function>*>(&tile));
  }

 private:
  using TileFunction = void (*)(void* context, size_t i, uint32_t thread);

  template <typename Function>
  static void Call(void* context, size_t i, uint32_t thread) {
    if constexpr (std::is_invocable_v<Function&, size_t, uint32_t>) {
      (*static_cast<Function*>(context))(i, thread);
    } else {
      (*static_cast<Function*>(context))(i);
    }
  }
  void Run(size_t num_tiles, TileFunction tile, void* context);

  struct State;
  explicit ThreadPool(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace strata::engine
