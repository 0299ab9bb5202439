// For the emulator and for GPUs.
#include <utility>

#include "aio/base/units.h"
#include "engine/kernels/cuda/row_kernels.h"
#include "tests/engine/kernels/kernels_on_device.h"
#include "tests/engine/kernels/kernels_rig.h"
#include "tests/or_die.h"
#include "tests/require.h"
#include "tiering/cuda_device.h"

namespace strata::engine {
namespace {

// Of what tests call at once.
constexpr uint64_t kDeviceBytes = 128_MiB;

// What a class that adds products and attention has.
class RowsOnly final : public cuda::CudaRowKernels {
  size_t MatMulWorkspaceBytes() const override { return 0; }
  Status MatMul(const Stream&, const Matrix&, Transpose, const Matrix&, Transpose, const Matrix&,
                Output, std::span<std::byte>) override {
    return Unimplemented("a product");
  }
  size_t AttentionWorkspaceBytes(const AttentionShape&, DType) const override { return 0; }
  Status AttentionForward(const Stream&, const AttentionShape&, const Matrix&, const Matrix&,
                          const Matrix&, const Matrix&, float*, std::span<std::byte>) override {
    return Unimplemented("attention");
  }
  Status AttentionBackward(const Stream&, const AttentionShape&, const Matrix&, const Matrix&,
                           const Matrix&, const Matrix&, const float*, const Matrix&, const Matrix&,
                           const Matrix&, const Matrix&, std::span<std::byte>) override {
    return Unimplemented("attention");
  }
};

}  // namespace

std::string MissingForTestKernels() {
  const Status status = tiering::FindCudaGpus().status();
  return status.ok() || IsRequired("gpu") ? "" : status.message();
}

std::unique_ptr<Kernels> MakeTestKernels() {
  return std::make_unique<KernelsOnDevice>(std::make_unique<RowsOnly>(),
                                           OrDie(tiering::CreateCudaDevice(0, kDeviceBytes)));
}

std::vector<std::unique_ptr<Kernels>> MakeAllTestKernels() {
  std::vector<std::unique_ptr<Kernels>> all;
  all.push_back(MakeTestKernels());
  return all;
}

}  // namespace strata::engine
