// The kind of device that device_test.cc runs on: each program has one.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "aio/base/status.h"
#include "tiering/device.h"

namespace strata::tiering {

extern const char* const kTestDeviceName;
// Between the clock of the device's events and the host's.
extern const std::chrono::microseconds kTestClockError;
// Where host functions of several streams wait for each other, that ends.
extern const bool kHostFunctionsRunBesideEachOther;

// Why this machine has no such device; empty when it has, or must have by STRATA_REQUIRE.
std::string MissingForTestDevice();
Result<std::unique_ptr<Device>> CreateTestDevice(uint64_t budget_bytes);
// Within a Launch(): the function runs when the stream is there.
Status RunOnTestStream(const StreamContext& context, std::function<void()> function);

}  // namespace strata::tiering
