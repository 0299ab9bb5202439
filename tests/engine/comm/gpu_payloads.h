// Payloads in the memory of a GPU, emulated or not.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>

#include "tests/engine/comm/collectives_suite.h"

namespace strata::engine {

class GpuPayloads final : public Payloads {
 public:
  // On the device that is current.
  explicit GpuPayloads(uint64_t seed);
  ~GpuPayloads() override;
  GpuPayloads(const GpuPayloads&) = delete;
  GpuPayloads& operator=(const GpuPayloads&) = delete;

  void Reset() override { used_ = 0; }
  // Aligned to 4 bytes, often not to more.
  std::span<std::byte> Take(uint64_t size_bytes) override;
  tiering::StreamContext stream() const override { return {.native_stream = stream_}; }
  void Write(std::span<std::byte> to, std::span<const std::byte> bytes) override;
  std::vector<std::byte> Read(std::span<const std::byte> from) override;

  cudaStream_t native_stream() const { return stream_; }

 private:
  std::byte* memory_ = nullptr;
  cudaStream_t stream_ = nullptr;
  cudaStream_t writes_ = nullptr;
  uint64_t used_ = 0;
};

}  // namespace strata::engine
