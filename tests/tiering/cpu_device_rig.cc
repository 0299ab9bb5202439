#include "tests/tiering/device_rig.h"

namespace strata::tiering {

const char* const kTestDeviceName = "cpu";
const std::chrono::microseconds kTestClockError{0};
const bool kHostFunctionsRunBesideEachOther = true;

std::string MissingForTestDevice() { return ""; }

Result<std::unique_ptr<Device>> CreateTestDevice(uint64_t budget_bytes) {
  return CreateCpuDevice(budget_bytes);
}

Status RunOnTestStream(const StreamContext&, std::function<void()> function) {
  function();
  return OkStatus();
}

}  // namespace strata::tiering
