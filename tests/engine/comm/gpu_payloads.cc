#include "tests/engine/comm/gpu_payloads.h"

#include "aio/base/check.h"

namespace strata::engine {

GpuPayloads::GpuPayloads(uint64_t seed) : Payloads(seed) {
  void* memory = nullptr;
  STRATA_CHECK(cudaMalloc(&memory, kPayloadBytes) == cudaSuccess);
  memory_ = static_cast<std::byte*>(memory);
  STRATA_CHECK(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking) == cudaSuccess);
  STRATA_CHECK(cudaStreamCreateWithFlags(&writes_, cudaStreamNonBlocking) == cudaSuccess);
}

GpuPayloads::~GpuPayloads() {
  static_cast<void>(cudaStreamSynchronize(stream_));
  static_cast<void>(cudaStreamDestroy(stream_));
  static_cast<void>(cudaStreamDestroy(writes_));
  static_cast<void>(cudaFree(memory_));
}

std::span<std::byte> GpuPayloads::Take(uint64_t size_bytes) {
  const uint64_t offset = (used_ + 15) / 16 * 16 + Random() % 3 * 4;
  used_ = offset + size_bytes;
  STRATA_CHECK(used_ <= kPayloadBytes);
  return {memory_ + offset, size_bytes};
}

void GpuPayloads::Write(std::span<std::byte> to, std::span<const std::byte> bytes) {
  STRATA_CHECK(to.size() == bytes.size());
  if (to.empty()) return;
  // Not by cudaMemcpy(): of memory that is not pinned, its copy may arrive after it has returned.
  STRATA_CHECK(cudaMemcpyAsync(to.data(), bytes.data(), bytes.size(), cudaMemcpyHostToDevice,
                               writes_) == cudaSuccess);
  STRATA_CHECK(cudaStreamSynchronize(writes_) == cudaSuccess);
}

std::vector<std::byte> GpuPayloads::Read(std::span<const std::byte> from) {
  std::vector<std::byte> bytes(from.size());
  STRATA_CHECK(cudaStreamSynchronize(stream_) == cudaSuccess);
  if (from.empty()) return bytes;
  STRATA_CHECK(cudaMemcpy(bytes.data(), from.data(), from.size(), cudaMemcpyDeviceToHost) ==
               cudaSuccess);
  return bytes;
}

}  // namespace strata::engine
