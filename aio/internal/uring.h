// One io_uring, set up with what this kernel offers.
#pragma once

#include <liburing.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "aio/base/status.h"
#include "aio/internal/memory_chunks.h"
#include "aio/io_engine.h"

namespace strata::aio {

// Thread-compatible; after EnableHere() it belongs to the thread that called it.
class Uring {
 public:
  // Room for queue_depth transfers and one more submission. kUnavailable when the kernel refuses
  // io_uring as such; that it refuses to register memory is only a note.
  static Result<std::unique_ptr<Uring>> Create(const IoEngineOptions& options);
  ~Uring();

  io_uring* get() { return &ring_; }
  void EnableHere();

  // The memory that may be named by its chunk's index; empty when registering failed.
  const MemoryChunks& registered() const { return registered_; }
  const std::vector<std::string>& notes() const { return notes_; }

 private:
  Uring() = default;
  Status SetUp(const IoEngineOptions& options);
  Status TakeStock(const IoEngineOptions& options, const io_uring_params& params,
                   std::string_view lacks);
  Status CheckOperations();
  void Register(const MemoryChunks& chunks);

  io_uring ring_ = {};
  bool is_set_up_ = false;
  bool starts_disabled_ = false;
  MemoryChunks registered_;
  std::vector<std::string> notes_;
};

}  // namespace strata::aio
