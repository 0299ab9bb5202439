// Leased, aligned host buffers for I/O.
//
// A BufferPool cuts one span of memory into equal buffers and leases them. Move-only ownership is
// the rule: whoever holds the IoBuffer is the only one who may touch its bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "aio/base/status.h"

namespace strata::aio {

class BufferPool;

// Whether other processes on this machine may map the same memory.
enum class Sharing : uint8_t { kPrivate, kShared };

// Page-aligned anonymous memory on transparent huge pages where they are to be had, populated at
// once. Owns the mapping; the base of arenas and pools. Shared memory is on huge pages only where
// /sys/kernel/mm/transparent_hugepage/shmem_enabled is "advise" or "always"; it ends with the last
// process that maps it, whatever ends that.
class HugeMemory {
 public:
  // 2 MiB aligned, rounded up to 4 KiB. kResourceExhausted when the kernel refuses, or when it has
  // less memory available than asked for: populating that would end in somebody being killed.
  // `name` is what /proc/PID/maps calls it, where the kernel can (shared memory: always).
  static Result<HugeMemory> Map(uint64_t size_bytes, Sharing sharing = Sharing::kPrivate,
                                const std::string& name = "strata");

  HugeMemory(HugeMemory&&) noexcept;
  HugeMemory& operator=(HugeMemory&&) noexcept;
  ~HugeMemory();

  std::span<std::byte> bytes() const { return bytes_; }
  // Of shared memory: what others map to see it. -1 of private memory.
  int fd() const { return fd_; }

 private:
  HugeMemory(std::span<std::byte> bytes, int fd) : bytes_(bytes), fd_(fd) {}

  std::span<std::byte> bytes_;
  int fd_ = -1;
};

// A lease on one buffer of a BufferPool; the memory goes home when the lease ends.
class IoBuffer {
 public:
  IoBuffer() = default;
  IoBuffer(IoBuffer&& other) noexcept;
  IoBuffer& operator=(IoBuffer&& other) noexcept;
  ~IoBuffer();

  std::span<std::byte> bytes() const { return bytes_; }
  size_t size_bytes() const { return bytes_.size(); }

 private:
  friend class BufferPool;
  IoBuffer(BufferPool* pool, std::span<std::byte> bytes) : pool_(pool), bytes_(bytes) {}

  BufferPool* pool_ = nullptr;
  std::span<std::byte> bytes_;
};

// Thread-safe. Outlives its leases, and CHECKs so in its destructor.
class BufferPool {
 public:
  static constexpr size_t kAlignmentBytes = 4096;

  // `memory` is kAlignmentBytes-aligned and outlives the pool; it is cut into floor(size / buffer)
  // buffers of `buffer_bytes`, a multiple of kAlignmentBytes.
  BufferPool(std::span<std::byte> memory, size_t buffer_bytes);
  ~BufferPool();

  // kResourceExhausted when all buffers are leased; never blocks.
  Result<IoBuffer> Lease();
  size_t num_free() const;
  size_t buffer_bytes() const;

 private:
  friend class IoBuffer;
  void TakeBack(std::span<std::byte> bytes);

  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace strata::aio
