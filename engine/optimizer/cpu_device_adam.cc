#include <cmath>
#include <utility>

#include "engine/optimizer/device_adam.h"

namespace strata::engine {
namespace {

class CpuDeviceAdam final : public DeviceAdam {
 public:
  explicit CpuDeviceAdam(ThreadPool pool) : pool_(std::move(pool)) {}

  Status Step(const tiering::StreamContext&, const AdamScalars& scalars, const AdamSlices& slices,
              const double* coefficient) override {
    AdamScalars scaled = scalars;
    if (coefficient != nullptr) {
      if (std::isnan(*coefficient)) {
        KeepWeights(slices);
        return OkStatus();
      }
      scaled.gradient_scale = static_cast<float>(*coefficient);
    }
    AdamStep(scaled, slices, pool_);
    return OkStatus();
  }

 private:
  ThreadPool pool_;
};

}  // namespace

Result<std::unique_ptr<DeviceAdam>> MakeCpuDeviceAdam(uint32_t num_threads) {
  STRATA_ASSIGN_OR_RETURN(ThreadPool pool, ThreadPool::Create(num_threads));
  return std::unique_ptr<DeviceAdam>(std::make_unique<CpuDeviceAdam>(std::move(pool)));
}

void KeepWeights(const AdamSlices& slices) {
  if (slices.format != StateFormat::kFp32 || slices.weight == nullptr) return;
  const auto* master = reinterpret_cast<const float*>(slices.master);
  if (slices.weight_dtype == DType::kF16) {
    auto* weight = reinterpret_cast<F16*>(slices.weight);
    for (uint64_t i = 0; i < slices.num_elements; ++i) weight[i] = ToHalf(master[i]);
  } else {
    auto* weight = reinterpret_cast<Bf16*>(slices.weight);
    for (uint64_t i = 0; i < slices.num_elements; ++i) weight[i] = ToBf16(master[i]);
  }
}

}  // namespace strata::engine
