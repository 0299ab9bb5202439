// What is true of the cpu device alone; device_test.cc has what is true of all.
#include <gmock/gmock.h>
#include <pthread.h>

#include <array>
#include <memory>
#include <string>

#include "aio/base/units.h"
#include "tests/fakes/no_threads.h"
#include "tests/or_die.h"
#include "tiering/device.h"

namespace strata::tiering {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class CpuDeviceTest : public testing::Test {
 protected:
  std::unique_ptr<Device> device_ = OrDie(CreateCpuDevice(1_MiB));
};

TEST_F(CpuDeviceTest, AStreamWhoseThreadCannotBeStartedHasFailedAndSaysWhy) {
  std::unique_ptr<DeviceStream> stream = [&] {
    fakes::NoThreads none;
    return device_->CreateStream("compute");
  }();
  bool ran = false;
  stream->Launch([&](const StreamContext&) {
    ran = true;
    return OkStatus();
  });
  Status status = stream->Record().Wait();
  EXPECT_EQ(status.code(), Code::kResourceExhausted);
  EXPECT_THAT(status.message(),
              AllOf(HasSubstr("device stream 'compute'"), HasSubstr("ulimit -u")));
  EXPECT_FALSE(ran);
}

TEST_F(CpuDeviceTest, AStreamIsAThreadThatBearsItsName) {
  std::array<char, 16> name = {};
  auto stream = device_->CreateStream("a-rather-long-stream-name");
  stream->Launch([&name](const StreamContext& context) {
    EXPECT_EQ(context.native_stream, nullptr);
    EXPECT_EQ(pthread_getname_np(pthread_self(), name.data(), name.size()), 0);
    return OkStatus();
  });
  ASSERT_TRUE(stream->Record().Wait().ok());
  EXPECT_STREQ(name.data(), "a-rather-long-s");
}

TEST_F(CpuDeviceTest, IsNearNoNumaNodeInParticular) {
  EXPECT_FALSE(device_->numa_node().has_value());
}

}  // namespace
}  // namespace strata::tiering
