#include "engine/optimizer/device_adam.h"

namespace strata::engine {

Result<std::unique_ptr<DeviceAdam>> MakeCudaAdam() {
  return Unavailable("this build has no CUDA: configure it with -DSTRATA_CUDA=ON");
}

}  // namespace strata::engine
