#include "aio/io_buffer.h"

#include <fmt/format.h>

#include <mutex>
#include <utility>
#include <vector>

#include "aio/base/check.h"

namespace strata::aio {

IoBuffer::IoBuffer(IoBuffer&& other) noexcept
    : pool_(std::exchange(other.pool_, nullptr)), bytes_(std::exchange(other.bytes_, {})) {}

IoBuffer& IoBuffer::operator=(IoBuffer&& other) noexcept {
  std::swap(pool_, other.pool_);  // other takes ours home
  std::swap(bytes_, other.bytes_);
  return *this;
}

IoBuffer::~IoBuffer() {
  if (pool_ != nullptr) pool_->TakeBack(bytes_);
}

struct BufferPool::State {
  size_t buffer_bytes;
  size_t num_buffers;
  mutable std::mutex mutex;
  std::vector<std::span<std::byte>> free;
};

BufferPool::BufferPool(std::span<std::byte> memory, size_t buffer_bytes)
    : state_(std::make_unique<State>()) {
  STRATA_CHECK(buffer_bytes > 0 && buffer_bytes % kAlignmentBytes == 0);
  STRATA_CHECK(reinterpret_cast<uintptr_t>(memory.data()) % kAlignmentBytes == 0);
  state_->buffer_bytes = buffer_bytes;
  state_->num_buffers = memory.size() / buffer_bytes;
  for (size_t i = state_->num_buffers; i > 0; --i)  // the first is leased first
    state_->free.push_back(memory.subspan((i - 1) * buffer_bytes, buffer_bytes));
}

BufferPool::~BufferPool() { STRATA_CHECK(num_free() == state_->num_buffers); }

Result<IoBuffer> BufferPool::Lease() {
  std::lock_guard lock(state_->mutex);
  if (state_->free.empty()) {
    return ResourceExhausted(fmt::format("all {} I/O buffers of {} bytes are in use",
                                         state_->num_buffers, state_->buffer_bytes));
  }
  std::span<std::byte> bytes = state_->free.back();
  state_->free.pop_back();
  return IoBuffer(this, bytes);
}

size_t BufferPool::num_free() const {
  std::lock_guard lock(state_->mutex);
  return state_->free.size();
}

size_t BufferPool::buffer_bytes() const { return state_->buffer_bytes; }

void BufferPool::TakeBack(std::span<std::byte> bytes) {
  std::lock_guard lock(state_->mutex);
  state_->free.push_back(bytes);
}

}  // namespace strata::aio
