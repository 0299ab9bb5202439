#include "tiering/copy_rates.h"

#include <gmock/gmock.h>

#include <vector>

#include "aio/base/units.h"
#include "tests/or_die.h"
#include "tests/tiering/device_rig.h"

namespace strata::tiering {
namespace {

TEST(CopyRatesTest, EachDirectionAndBothAtOnceHaveTheirRate) {
  if (const std::string missing = MissingForTestDevice(); !missing.empty()) GTEST_SKIP() << missing;
  const auto device = OrDie(CreateTestDevice(4_MiB));
  std::vector<std::byte> host(8_MiB);
  const auto registration = OrDie(device->RegisterHostMemory(host));
  const CopyRates rates = OrDie(MeasureCopyRates(*device, host));
  // Nothing moves 2 MiB in less than 2 us or takes more than 20 s for it.
  for (double rate : {rates.in_bytes_per_s, rates.out_bytes_per_s, rates.both_bytes_per_s}) {
    EXPECT_GT(rate, 1e5);
    EXPECT_LT(rate, 2e12);
  }
}

TEST(CopyRatesTest, AFailureOfTheDeviceIsTheAnswer) {
  if (const std::string missing = MissingForTestDevice(); !missing.empty()) GTEST_SKIP() << missing;
  class Broken final : public Device {
   public:
    explicit Broken(Device& device) : device_(device) {}
    std::string name() const override { return device_.name(); }
    std::span<std::byte> memory() const override { return device_.memory(); }
    int memory_fd() const override { return -1; }
    std::optional<uint32_t> numa_node() const override { return std::nullopt; }
    Result<std::unique_ptr<HostRegistration>> RegisterHostMemory(std::span<std::byte>) override {
      return Internal("not asked for");
    }
    std::unique_ptr<DeviceStream> CreateStream(const std::string& name) override {
      auto stream = device_.CreateStream(name);
      stream->Launch([](const StreamContext&) { return DataLoss("bad bytes"); });
      return stream;
    }

   private:
    Device& device_;
  };
  const auto device = OrDie(CreateTestDevice(4_MiB));
  Broken broken(*device);
  std::vector<std::byte> host(1_MiB);
  EXPECT_EQ(MeasureCopyRates(broken, host).status().code(), Code::kDataLoss);
}

}  // namespace
}  // namespace strata::tiering
