#include "tools/launch/starter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <string>
#include <vector>

#include "aio/base/address.h"
#include "tests/or_die.h"
#include "tools/launch/reserved_port.h"

namespace strata::launch {
namespace {

using testing::HasSubstr;

Command Shell(const std::string& script) { return {{}, {"/bin/sh", "-c", script}}; }

TEST(Starter, IsOverWhenTheLastHasEnded) {
  EventLoop loop;
  Starter starter(loop, "");
  SignalWatch signals(loop, {SIGCHLD}, [&](int) {
    if (!starter.Reap()) return;
    EXPECT_FALSE(starter.is_running());
    loop.Stop();
  });
  ASSERT_TRUE(starter.Start({Shell("echo one"), Shell("sleep 0.05; echo two")}, SIGKILL).ok());
  loop.Run();
  EXPECT_TRUE(starter.ending().ok());
  EXPECT_FALSE(starter.has_failed());
  EXPECT_THAT(starter.said(), testing::AllOf(HasSubstr("one\n"), HasSubstr("two\n")));
}

TEST(Starter, TheFirstBadEndIsKnownAtOnceAndKept) {
  EventLoop loop;
  Starter starter(loop, "");
  SignalWatch signals(loop, {SIGCHLD}, [&](int) {
    if (starter.Reap()) return loop.Stop();
    EXPECT_TRUE(starter.has_failed());
    EXPECT_THAT(starter.said(), HasSubstr("no room\n"));
    starter.End();
  });
  ASSERT_TRUE(
      starter.Start({Shell("echo no room >&2; exit 7"), Shell("sleep 1000")}, SIGKILL).ok());
  loop.Run();
  EXPECT_EQ(starter.ending().exit_code, 7);
}

TEST(Starter, WhatIgnoresItsEndIsKilled) {
  EventLoop loop;
  Starter starter(loop, "");
  SignalWatch signals(loop, {SIGCHLD}, [&](int) {
    if (starter.Reap()) loop.Stop();
  });
  ASSERT_TRUE(starter.Start({Shell("trap '' TERM; while :; do sleep 0.02; done")}, SIGKILL).ok());
  loop.After(std::chrono::milliseconds(100), [&] { starter.End(); });
  loop.Run();
  EXPECT_EQ(starter.ending().signal_number, SIGKILL);
}

TEST(Starter, EndAndWaitReturnsWhenAllHaveEnded) {
  EventLoop loop;
  Starter starter(loop, "");
  ASSERT_TRUE(starter.Start({Shell("sleep 1000"), Shell("sleep 1000")}, SIGKILL).ok());
  starter.EndAndWait(std::chrono::minutes(1));
  EXPECT_FALSE(starter.is_running());
  EXPECT_EQ(starter.ending().signal_number, SIGTERM);
}

TEST(ReservedPort, IsNobodysUntilSomebodyListensOnIt) {
  const ReservedPort port = OrDie(ReservedPort::Find());
  EXPECT_NE(OrDie(ReservedPort::Find()).port(), port.port());
  for (const char* host : {"127.0.0.1", ""}) {
    const Descriptor listener = OrDie(ListenOn(TcpAddress(host, port.port())));
    EXPECT_TRUE(ConnectTo(TcpAddress("127.0.0.1", port.port()), std::chrono::seconds(5)).ok());
    // Another one is turned away as from any port in use.
    EXPECT_FALSE(ListenOn(TcpAddress(host, port.port())).ok());
  }
}

}  // namespace
}  // namespace strata::launch
