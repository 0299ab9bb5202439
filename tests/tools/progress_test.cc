#include "tools/progress.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <poll.h>
#include <pty.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string>

namespace strata::tools {
namespace {

StepReport Step(uint64_t step) { return {.step = step, .total_steps = 5, .loss = 1.5}; }

// What comes out of `fd`, up to `length_bytes`. A pseudo-terminal hands bytes over in its own time
// and in pieces; what has not come after ten seconds will not.
std::string Read(int fd, size_t length_bytes) {
  std::string text;
  while (text.size() < length_bytes) {
    pollfd readable = {.fd = fd, .events = POLLIN, .revents = 0};
    std::array<char, 4096> buffer;
    if (poll(&readable, 1, 10'000) != 1) break;
    ssize_t count = read(fd, buffer.data(), std::min(buffer.size(), length_bytes - text.size()));
    if (count <= 0) break;
    text.append(buffer.data(), static_cast<size_t>(count));
  }
  return text;
}

// All of `expected` came, and nothing is left.
void ExpectOutput(int fd, const std::string& expected) {
  EXPECT_EQ(Read(fd, expected.size()), expected);
  pollfd readable = {.fd = fd, .events = POLLIN, .revents = 0};
  EXPECT_EQ(poll(&readable, 1, 0), 0) << "more came: " << Read(fd, 1);
}

class PipeTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(pipe2(ends_.data(), O_CLOEXEC), 0); }
  void TearDown() override {
    for (int fd : ends_) EXPECT_EQ(close(fd), 0);
  }
  std::array<int, 2> ends_;
};

TEST_F(PipeTest, APipeGetsOneLineForEachThingMeasured) {
  {
    Progress progress(ends_[1], DetectTerminal(ends_[1]), 1);
    progress.Now("read, run 1 of 2", "3.71 GB/s");
    progress.Now("read, run 1 of 2", "3.72 GB/s");
    progress.Now("read, run 2 of 2", "3.70 GB/s");
  }
  ExpectOutput(ends_[0], "read, run 1 of 2\nread, run 2 of 2\n");
}

TEST_F(PipeTest, APipeGetsOneLineForEachStepAndNoControlCharacters) {
  Terminal terminal = DetectTerminal(ends_[1]);
  EXPECT_FALSE(terminal.is_live);
  {
    Progress progress(ends_[1], terminal, 1);
    progress.Step(Step(1));
    progress.Say("saved step 1");
    progress.Step(Step(2));
  }
  ExpectOutput(ends_[0],
               PlainStepLine(Step(1)) + "\nsaved step 1\n" + PlainStepLine(Step(2)) + "\n");
}

TEST_F(PipeTest, OnlyTheFirstEveryNthAndTheLastStepAreLogged) {
  Progress progress(ends_[1], {}, 3);
  for (uint64_t step = 1; step <= 5; ++step) progress.Step(Step(step));
  ExpectOutput(ends_[0], PlainStepLine(Step(1)) + "\n" + PlainStepLine(Step(3)) + "\n" +
                             PlainStepLine(Step(5)) + "\n");
}

// A pseudo-terminal of 60 columns that passes bytes on as they are.
class TerminalTest : public testing::Test {
 protected:
  void SetUp() override {
    termios raw = {};
    cfmakeraw(&raw);
    winsize size = {};
    size.ws_row = 24;
    size.ws_col = 60;
    if (openpty(&screen_, &program_, nullptr, &raw, &size) != 0)
      GTEST_SKIP() << "no pseudo-terminals here";
    setenv("TERM", "xterm", 1);
    unsetenv("NO_COLOR");
  }
  void TearDown() override {
    for (int fd : {screen_, program_}) {
      if (fd >= 0) {
        EXPECT_EQ(close(fd), 0);
      }
    }
  }
  int screen_ = -1;
  int program_ = -1;
};

TEST_F(TerminalTest, ATerminalSeesOneLineRewrittenWithinItsWidth) {
  Terminal terminal = DetectTerminal(program_);
  EXPECT_TRUE(terminal.is_live);
  {
    Progress progress(program_, terminal, 3);
    progress.Step(Step(1));
    progress.Step(Step(2));
  }
  ExpectOutput(screen_, "\r\x1b[K" + TerminalStepLine(Step(1), 59, Colour::kAnsi) + "\r\x1b[K" +
                            TerminalStepLine(Step(2), 59, Colour::kAnsi) + "\n");
}

TEST_F(TerminalTest, WhatIsSaidStaysAboveTheProgress) {
  {
    Progress progress(program_, {.is_live = true}, 1);
    progress.Step(Step(1));
    progress.Say("saved step 1");
  }
  ExpectOutput(screen_, "\r\x1b[K" + TerminalStepLine(Step(1), 59, Colour::kNone) +
                            "\r\x1b[Ksaved step 1\n");
}

TEST_F(TerminalTest, NoColorAndDumbTerminalsAreRespected) {
  EXPECT_EQ(DetectTerminal(program_).colour, Colour::kAnsi);
  setenv("NO_COLOR", "1", 1);
  EXPECT_EQ(DetectTerminal(program_).colour, Colour::kNone);
  EXPECT_TRUE(DetectTerminal(program_).is_live);
  setenv("TERM", "dumb", 1);
  EXPECT_FALSE(DetectTerminal(program_).is_live);
}

}  // namespace
}  // namespace strata::tools
