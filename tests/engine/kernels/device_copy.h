// Matrices of a test on a CUDA device, real or emulated: whichever cuda_runtime_api.h is compiled.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "aio/base/check.h"
#include "engine/kernels/kernels.h"

namespace strata::engine {

// A copy of host memory on the device, at an address that is as aligned (up to 256 bytes) as the
// original.
class DeviceCopy {
 public:
  explicit DeviceCopy(std::span<std::byte> host) : host_(host) {
    const size_t offset = reinterpret_cast<uintptr_t>(host.data()) % kAlignmentBytes;
    STRATA_CHECK(cudaMalloc(&memory_, host.size() + offset + 1) == cudaSuccess);
    data_ = static_cast<std::byte*>(memory_) + offset;
    // Not by cudaMemcpy(): of memory that is not pinned, its copy may arrive after it has returned.
    cudaStream_t stream = nullptr;
    STRATA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
    STRATA_CHECK(cudaMemcpyAsync(data_, host.data(), host.size(), cudaMemcpyHostToDevice, stream) ==
                 cudaSuccess);
    STRATA_CHECK(cudaStreamSynchronize(stream) == cudaSuccess);
    STRATA_CHECK(cudaStreamDestroy(stream) == cudaSuccess);
  }
  ~DeviceCopy() { STRATA_CHECK(cudaFree(memory_) == cudaSuccess); }
  DeviceCopy(const DeviceCopy&) = delete;
  DeviceCopy& operator=(const DeviceCopy&) = delete;

  std::byte* data() const { return data_; }
  std::span<std::byte> bytes() const { return {data_, host_.size()}; }
  // What is on the device by now, back to where it came from. The stream's work is done.
  void CopyBack() const {
    STRATA_CHECK(cudaMemcpy(host_.data(), data_, host_.size(), cudaMemcpyDeviceToHost) ==
                 cudaSuccess);
  }

 private:
  static constexpr size_t kAlignmentBytes = 256;
  std::span<std::byte> host_;
  void* memory_ = nullptr;
  std::byte* data_ = nullptr;
};

// The same of a matrix, with what is between its rows.
class DeviceMatrix {
 public:
  explicit DeviceMatrix(const Matrix& host) : copy_({host.data, host.size_bytes()}), view_(host) {
    view_.data = copy_.data();
  }
  operator const Matrix&() const { return view_; }
  const Matrix& view() const { return view_; }
  void CopyBack() const { copy_.CopyBack(); }

 private:
  DeviceCopy copy_;
  Matrix view_;
};

}  // namespace strata::engine
