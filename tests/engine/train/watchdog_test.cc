#include "engine/train/watchdog.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <thread>

#include "tests/engine/comm/thread_world.h"
#include "tests/or_die.h"

namespace strata::engine {
namespace {

using namespace std::chrono_literals;

// A watchdog of the only rank, and whether it has barked.
class WatchdogTest : public testing::Test {
 protected:
  std::unique_ptr<Watchdog> Start(std::chrono::milliseconds limit) {
    return OrDie(Watchdog::Start(limit, *communicator_,
                                 [this](const Status& why) { stalled_.set_value(why); }));
  }
  bool HasStalled() { return why_.wait_for(0s) == std::future_status::ready; }

  std::unique_ptr<Communicator> communicator_ = MakeSelfCommunicator();
  std::promise<Status> stalled_;
  std::future<Status> why_ = stalled_.get_future();
};

TEST_F(WatchdogTest, SaysWhatTheRankStandsStillAtAndEndsItsCollectives) {
  std::unique_ptr<Watchdog> watchdog = Start(100ms);
  const Watchdog::Scope outer(watchdog.get(), Doing("the step"));
  { const Watchdog::Scope done(watchdog.get(), Doing("what is over")); }
  const Status why = why_.get();
  EXPECT_EQ(why.code(), Code::kDeadlineExceeded);
  EXPECT_EQ(why.message(), "no progress for 0.1 s: the step");
  EXPECT_EQ(communicator_->channel(ChannelId::kControl).Barrier().message(), why.message());
}

TEST_F(WatchdogTest, WhateverGetsOnIsProgress) {
  std::unique_ptr<Watchdog> watchdog = Start(400ms);
  std::atomic<uint64_t> done = 0;
  const Watchdog::Scope step(
      watchdog.get(), {.describe = [] { return "the step"; }, .done = [&] { return done.load(); }});
  for (int i = 0; i < 100; ++i) {
    i < 50 ? watchdog->Tick() : static_cast<void>(++done);
    std::this_thread::sleep_for(10ms);
    EXPECT_FALSE(HasStalled());
  }
  EXPECT_EQ(why_.get().message(), "no progress for 0.4 s: the step");
}

TEST_F(WatchdogTest, WhatMayTakeLongMay) {
  std::unique_ptr<Watchdog> watchdog = Start(50ms);
  {
    const Watchdog::Scope scope(watchdog.get(), MayTakeLong("planning"));
    std::this_thread::sleep_for(300ms);
    EXPECT_FALSE(HasStalled());
  }
  EXPECT_EQ(why_.get().message(), "no progress for 0.05 s: the start of the run");
}

TEST_F(WatchdogTest, ItWatchesTheEndWithoutWhatIsGone) {
  std::unique_ptr<Watchdog> watchdog = Start(50ms);
  watchdog->Leave();
  communicator_.reset();
  EXPECT_EQ(why_.get().message(), "no progress for 0.05 s: the end of the run");
}

// The first rank is waited for, and its watchdog shows that it is alive; the second only waits.
TEST(WatchdogOfRanks, WhoWaitsForOthersDoesNotStandStill) {
  ThreadWorld world = MachinesOf({1, 1});
  world.options.deadline = 500ms;
  std::atomic<int> barks = 0;
  RunRanks(world, [&](Communicator& communicator) {
    std::unique_ptr<Watchdog> watchdog =
        OrDie(Watchdog::Start(100ms, communicator, [&](const Status&) { ++barks; }));
    if (communicator.rank() == 0) {
      const Watchdog::Scope scope(watchdog.get(), MayTakeLong("long"));
      std::this_thread::sleep_for(1500ms);
    }
    EXPECT_EQ(communicator.channel(ChannelId::kCommLane).Barrier().ToString(), "ok");
    watchdog->Leave();
  });
  EXPECT_EQ(barks, 0);
}

}  // namespace
}  // namespace strata::engine
