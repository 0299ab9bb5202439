#include "tiering/device.h"

#include <gmock/gmock.h>

#include <atomic>
#include <future>
#include <numeric>
#include <thread>
#include <vector>

#include "aio/base/units.h"
#include "tests/tiering/device_rig.h"

namespace strata::tiering {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

// On each kind of device: one program for each, with a rig of its own.
class DeviceTest : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string missing = MissingForTestDevice(); !missing.empty())
      GTEST_SKIP() << missing;
    Result<std::unique_ptr<Device>> device = CreateTestDevice(1_MiB);
    ASSERT_TRUE(device.ok()) << device.status().ToString();
    device_ = std::move(device).value();
  }

  // Puts on the stream what runs, on some thread of the host, when the stream is there.
  static void Put(DeviceStream& stream, std::function<void()> function) {
    stream.Launch([function = std::move(function)](const StreamContext& context) {
      return RunOnTestStream(context, function);
    });
  }

  std::unique_ptr<Device> device_;
};

TEST_F(DeviceTest, HasExactlyItsBudgetOfMemory) {
  EXPECT_EQ(device_->name(), kTestDeviceName);
  EXPECT_EQ(device_->memory().size(), 1_MiB);
}

TEST_F(DeviceTest, ABudgetThatIsNotThereIsAnErrorThatNamesTheDevice) {
  auto device = CreateTestDevice(uint64_t{1} << 50);
  ASSERT_FALSE(device.ok());
  EXPECT_EQ(device.status().code(), Code::kResourceExhausted);
  EXPECT_THAT(device.status().message(), AllOf(HasSubstr("device"), HasSubstr(kTestDeviceName)));
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

TEST_F(DeviceTest, CopiesFromAndToRegisteredMemory) {
  std::vector<std::byte> memory(3 << 20);
  for (size_t i = 0; i < memory.size(); ++i) memory[i] = static_cast<std::byte>(i * 13 >> 3);
  const std::vector<std::byte> expected(memory.begin(), memory.begin() + (1 << 20));
  auto registration = device_->RegisterHostMemory(memory);
  ASSERT_TRUE(registration.ok()) << registration.status().ToString();
  auto stream = device_->CreateStream("copies");
  const std::span<std::byte> back = std::span(memory).subspan(2 << 20, 1 << 20);
  stream->CopyIn(device_->memory(), std::span(memory).first(1 << 20));
  stream->CopyOut(back, device_->memory());
  ASSERT_TRUE(stream->Record().Wait().ok());
  EXPECT_TRUE(std::equal(back.begin(), back.end(), expected.begin()));
}

TEST_F(DeviceTest, MemoryCanBeRegisteredAgainOnceItsRegistrationHasEnded) {
  std::vector<std::byte> memory(1 << 20);
  for (int i = 0; i < 2; ++i) {
    auto registration = device_->RegisterHostMemory(memory);
    ASSERT_TRUE(registration.ok()) << registration.status().ToString();
  }
}

TEST_F(DeviceTest, WorkOfAStreamRunsInOrder) {
  std::vector<int> order;
  auto stream = device_->CreateStream("compute");
  for (int i = 0; i < 100; ++i) Put(*stream, [&order, i] { order.push_back(i); });
  ASSERT_TRUE(stream->Record().Wait().ok());
  std::vector<int> expected(100);
  std::iota(expected.begin(), expected.end(), 0);
  EXPECT_EQ(order, expected);
}

TEST_F(DeviceTest, LaunchReturnsBeforeTheWorkIsDone) {
  std::promise<void> gate;
  auto stream = device_->CreateStream("compute");
  Put(*stream, [&gate] { gate.get_future().wait(); });
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
  Put(*first, [&] {
    gate.get_future().wait();
    order.push_back("first");
  });
  second->WaitFor(first->Record());
  Put(*second, [&] { order.push_back("second"); });
  DeviceEvent end = second->Record();
  EXPECT_FALSE(end.done());
  gate.set_value();
  ASSERT_TRUE(end.Wait().ok());
  EXPECT_THAT(order, ElementsAre("first", "second"));
}

TEST_F(DeviceTest, StreamsRunBesideEachOther) {
  if (!kHostFunctionsRunBesideEachOther)
    GTEST_SKIP() << "a GPU's driver calls host functions one after the other";
  // Each waits until the other runs: on one thread this would never end.
  std::atomic<int> arrived = 0;
  auto meet = [&arrived] {
    arrived.fetch_add(1);
    arrived.notify_all();
    for (int seen = 1; seen < 2; seen = arrived.load()) arrived.wait(seen);
  };
  auto first = device_->CreateStream("first");
  auto second = device_->CreateStream("second");
  Put(*first, meet);
  Put(*second, meet);
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
  EXPECT_LE(start, first.time() + kTestClockError);
  EXPECT_LE(first.time(), second.time());
  EXPECT_LE(second.time(), Clock::now() + kTestClockError);
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
  for (int i = 0; i < 100; ++i) Put(*stream, [&runs] { ++runs; });
  DeviceEvent event = stream->Record();
  stream.reset();
  EXPECT_EQ(runs, 100);
  EXPECT_TRUE(event.done());
}

TEST_F(DeviceTest, ManyThreadsMayWaitForOneEvent) {
  std::promise<void> gate;
  auto stream = device_->CreateStream("compute");
  Put(*stream, [&gate] { gate.get_future().wait(); });
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
