#include "tiering/device.h"

#include <gmock/gmock.h>
#include <pthread.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <future>
#include <numeric>
#include <thread>
#include <vector>

#include "aio/base/units.h"
#include "tests/fakes/no_threads.h"

namespace strata::tiering {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

class DeviceTest : public testing::Test {
 protected:
  static std::unique_ptr<Device> OrDie(Result<std::unique_ptr<Device>> device) {
    STRATA_CHECK(device.ok());
    return std::move(device).value();
  }

  std::unique_ptr<Device> device_ = OrDie(CreateCpuDevice(1_MiB));
};

TEST_F(DeviceTest, HasExactlyItsBudgetOfMemory) {
  EXPECT_EQ(device_->name(), "cpu");
  EXPECT_EQ(device_->memory().size(), 1_MiB);
}

TEST_F(DeviceTest, ABudgetThatIsNotThereIsAnErrorThatNamesTheDevice) {
  auto device = CreateCpuDevice(uint64_t{1} << 50);
  ASSERT_FALSE(device.ok());
  EXPECT_EQ(device.status().code(), Code::kResourceExhausted);
  EXPECT_THAT(device.status().message(), HasSubstr("device (cpu)"));
}

TEST_F(DeviceTest, AStreamWhoseThreadCannotBeStartedHasFailedAndSaysWhy) {
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

TEST_F(DeviceTest, CopiesInAndOutAgain) {
  auto stream = device_->CreateStream("copies");
  std::vector<std::byte> from(10000), to(10000);
  for (size_t i = 0; i < from.size(); ++i) from[i] = static_cast<std::byte>(i * 7);
  auto slot = device_->memory().subspan(4096, from.size());
  stream->CopyIn(slot, from);
  stream->CopyOut(to, slot);
  ASSERT_TRUE(stream->Record().Wait().ok());
  EXPECT_EQ(from, to);
}

TEST_F(DeviceTest, WorkOfAStreamRunsInOrderOnOneThreadThatBearsItsName) {
  std::vector<int> order;
  std::array<char, 16> name = {};
  auto stream = device_->CreateStream("a-rather-long-stream-name");
  for (int i = 0; i < 100; ++i) {
    stream->Launch([&order, i](const StreamContext&) {
      order.push_back(i);
      return OkStatus();
    });
  }
  stream->Launch([&name](const StreamContext& context) {
    EXPECT_EQ(context.native_stream, nullptr);
    EXPECT_EQ(pthread_getname_np(pthread_self(), name.data(), name.size()), 0);
    return OkStatus();
  });
  ASSERT_TRUE(stream->Record().Wait().ok());
  std::vector<int> expected(100);
  std::iota(expected.begin(), expected.end(), 0);
  EXPECT_EQ(order, expected);
  EXPECT_STREQ(name.data(), "a-rather-long-s");
}

TEST_F(DeviceTest, LaunchReturnsBeforeTheWorkIsDone) {
  std::promise<void> gate;
  auto stream = device_->CreateStream("compute");
  stream->Launch([&gate](const StreamContext&) {
    gate.get_future().wait();
    return OkStatus();
  });
  DeviceEvent event = stream->Record();
  EXPECT_FALSE(event.done());
  gate.set_value();
  EXPECT_TRUE(event.Wait().ok());
  EXPECT_TRUE(event.done());
}

TEST_F(DeviceTest, AStreamWaitsForAnEventOfAnotherOne) {
  std::promise<void> gate;
  std::vector<std::string> order;
  auto first = device_->CreateStream("first");
  auto second = device_->CreateStream("second");
  first->Launch([&](const StreamContext&) {
    gate.get_future().wait();
    order.push_back("first");
    return OkStatus();
  });
  second->WaitFor(first->Record());
  second->Launch([&](const StreamContext&) {
    order.push_back("second");
    return OkStatus();
  });
  DeviceEvent end = second->Record();
  EXPECT_FALSE(end.done());
  gate.set_value();
  ASSERT_TRUE(end.Wait().ok());
  EXPECT_THAT(order, ElementsAre("first", "second"));
}

TEST_F(DeviceTest, StreamsRunBesideEachOther) {
  // Each waits until the other runs: on one thread this would never end.
  std::atomic<int> arrived = 0;
  auto meet = [&arrived](const StreamContext&) {
    arrived.fetch_add(1);
    arrived.notify_all();
    for (int seen = 1; seen < 2; seen = arrived.load()) arrived.wait(seen);
    return OkStatus();
  };
  auto first = device_->CreateStream("first");
  auto second = device_->CreateStream("second");
  first->Launch(meet);
  second->Launch(meet);
  EXPECT_TRUE(first->Record().Wait().ok());
  EXPECT_TRUE(second->Record().Wait().ok());
}

TEST_F(DeviceTest, AFailureSkipsLaterWorkAndIsReportedByLaterEventsOnly) {
  bool ran = false;
  auto stream = device_->CreateStream("compute");
  DeviceEvent before = stream->Record();
  stream->Launch([](const StreamContext&) { return Internal("first failure"); });
  stream->Launch([&ran](const StreamContext&) {
    ran = true;
    return Internal("second failure");
  });
  DeviceEvent after = stream->Record();
  EXPECT_TRUE(before.Wait().ok());
  EXPECT_EQ(after.Wait().message(), "first failure");
  EXPECT_TRUE(after.done());
  EXPECT_FALSE(ran);
}

TEST_F(DeviceTest, WaitingForAFailedEventFailsTheStreamThatWaits) {
  bool ran = false;
  auto first = device_->CreateStream("first");
  auto second = device_->CreateStream("second");
  first->Launch([](const StreamContext&) { return DataLoss("bad bytes"); });
  second->WaitFor(first->Record());
  second->Launch([&ran](const StreamContext&) {
    ran = true;
    return OkStatus();
  });
  EXPECT_EQ(second->Record().Wait().code(), Code::kDataLoss);
  EXPECT_FALSE(ran);
}

TEST_F(DeviceTest, EventsCarryTheTimeAtWhichTheStreamReachedThem) {
  auto stream = device_->CreateStream("compute");
  Clock::time_point start = Clock::now();
  DeviceEvent first = stream->Record();
  DeviceEvent second = stream->Record();
  ASSERT_TRUE(second.Wait().ok());
  EXPECT_LE(start, first.time());
  EXPECT_LE(first.time(), second.time());
  EXPECT_LE(second.time(), Clock::now());
}

TEST_F(DeviceTest, AnEventOfNoStreamIsDone) {
  DeviceEvent event;
  EXPECT_TRUE(event.done());
  EXPECT_TRUE(event.Wait().ok());
  auto stream = device_->CreateStream("compute");
  stream->WaitFor(event);
  EXPECT_TRUE(stream->Record().Wait().ok());
}

TEST_F(DeviceTest, DestroyingAStreamFinishesItsWorkAndItsEventsOutliveIt) {
  int runs = 0;
  auto stream = device_->CreateStream("compute");
  for (int i = 0; i < 100; ++i) {
    stream->Launch([&runs](const StreamContext&) {
      ++runs;
      return OkStatus();
    });
  }
  DeviceEvent event = stream->Record();
  stream.reset();
  EXPECT_EQ(runs, 100);
  EXPECT_TRUE(event.done());
}

TEST_F(DeviceTest, ManyThreadsMayWaitForOneEvent) {
  std::promise<void> gate;
  auto stream = device_->CreateStream("compute");
  stream->Launch([&gate](const StreamContext&) {
    gate.get_future().wait();
    return OkStatus();
  });
  DeviceEvent event = stream->Record();
  std::atomic<int> released = 0;
  std::vector<std::jthread> waiters;
  for (int i = 0; i < 4; ++i)
    waiters.emplace_back([&released, event] { released += event.Wait().ok() ? 1 : 0; });
  gate.set_value();
  waiters.clear();
  EXPECT_EQ(released.load(), 4);
}

using DeviceDeathTest = DeviceTest;

TEST_F(DeviceDeathTest, CopyingBetweenTheWrongKindsOfMemoryIsABug) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  std::vector<std::byte> host(16);
  auto inside = device_->memory().first(16);
  EXPECT_DEATH(device_->CreateStream("s")->CopyIn(host, inside), "device_side");
  EXPECT_DEATH(device_->CreateStream("s")->CopyIn(inside, inside), "host_side");
  EXPECT_DEATH(device_->CreateStream("s")->CopyOut(host, inside.first(8)), "size");
}

TEST_F(DeviceDeathTest, AStreamThatOutlivesItsDeviceIsABug) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  EXPECT_DEATH(
      {
        auto stream = device_->CreateStream("s");
        device_.reset();
      },
      "num_streams_");
}

}  // namespace
}  // namespace strata::tiering
