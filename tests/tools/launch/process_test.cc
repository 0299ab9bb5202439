#include "tools/launch/process.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

#include "tests/or_die.h"
#include "tools/launch/job_output.h"

namespace strata::launch {
namespace {

using testing::AllOf;
using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;
using namespace std::chrono_literals;

struct Heard {
  std::string lines;
  size_t num_calls = 0;
};
// Runs a shell command to its end and reads it in whole lines.
Heard Hear(const std::string& command) {
  Child child = OrDie(StartChild({.words = {"/bin/sh", "-c", command}, .environment = {}}));
  EventLoop loop;
  Heard heard;
  LineReader reader(
      loop, std::move(child.out),
      [&](std::string_view lines) {
        EXPECT_TRUE(lines.ends_with('\n'));
        heard.lines += lines;
        ++heard.num_calls;
      },
      [&] { loop.Stop(); });
  loop.Run();
  waitpid(child.pid, nullptr, 0);
  return heard;
}

TEST(Process, OutputComesInWholeLinesHoweverItIsWritten) {
  EXPECT_EQ(Hear("printf 'a'; sleep 0.05; printf 'b\\nc'; sleep 0.05; printf 'd\\n\\nend'").lines,
            "ab\ncd\n\nend\n");
}

TEST(Process, ALineWithoutEndIsCutInsteadOfKept) {
  const Heard heard = Hear("head -c 300000 /dev/zero | tr '\\0' x");
  EXPECT_GT(heard.num_calls, 2u);
  EXPECT_EQ(std::count(heard.lines.begin(), heard.lines.end(), 'x'), 300000);
}

TEST(Process, AProgramThatIsNotThereIsNamed) {
  EXPECT_THAT(StartChild({.words = {"/no/such/program"}, .environment = {}}).status().message(),
              HasSubstr("/no/such/program"));
}

TEST(Process, TheEnvironmentIsOursWithTheAdditions) {
  setenv("STRATA_TEST_KEPT", "kept", 1);
  setenv("STRATA_TEST_REPLACED", "old", 1);
  Child child =
      OrDie(StartChild({.words = {"/bin/sh", "-c", "echo $STRATA_TEST_KEPT $STRATA_TEST_REPLACED"},
                        .environment = {{"STRATA_TEST_REPLACED", "new"}}}));
  char text[32] = {};
  ASSERT_GT(read(child.out.get(), text, sizeof text - 1), 0);
  waitpid(child.pid, nullptr, 0);
  EXPECT_STREQ(text, "kept new\n");
}

TEST(Process, EndingsAreCountedAsShellsDo) {
  EXPECT_EQ((Ending{3, 0}).ShellCode(), 3);
  EXPECT_EQ((Ending{0, SIGKILL}).ShellCode(), 137);
  EXPECT_EQ(Describe(Ending{0, SIGTERM}), "killed by signal 15 (Terminated)");
}

TEST(Process, WhatChildrenLeaveBehindIsKilledToo) {
  ASSERT_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
  // A grandchild in a session of its own, whose parent is gone.
  Child child =
      OrDie(StartChild({.words = {"/bin/sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 & echo $!"},
                        .environment = {}}));
  char text[32] = {};
  ASSERT_GT(read(child.out.get(), text, sizeof text - 1), 0);
  const pid_t grandchild = std::stoi(text);
  ASSERT_EQ(kill(grandchild, 0), 0);
  KillAllChildren();
  EXPECT_EQ(kill(grandchild, 0), -1);
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1);
}

class JobOutputTest : public testing::Test {
 protected:
  JobOutputTest() {
    STRATA_CHECK(pipe(out_) == 0 && pipe(err_) == 0);
    output_ = std::make_unique<JobOutput>(loop_, out_[1], err_[1]);
  }
  ~JobOutputTest() override {
    output_.reset();
    for (int fd : {out_[0], out_[1], err_[0], err_[1]}) close(fd);
  }
  static std::string Read(int fd) {
    std::string text(1 << 16, '\0');
    pollfd readable = {fd, POLLIN, 0};
    if (poll(&readable, 1, 0) <= 0) return {};
    text.resize(static_cast<size_t>(read(fd, text.data(), text.size())));
    return text;
  }
  EventLoop loop_;
  int out_[2];
  int err_[2];
  std::unique_ptr<JobOutput> output_;
};

TEST_F(JobOutputTest, RankZerosOutputIsPlainAllElseIsMarked) {
  output_->Lines(0, JobOutput::Stream::kOut, "step 1\nstep 2\n");
  output_->Lines(3, JobOutput::Stream::kOut, "hello\n\n");
  output_->Lines(0, JobOutput::Stream::kErr, "error: x\n");
  output_->Say("two\nlines");
  EXPECT_EQ(Read(out_[0]), "step 1\nstep 2\n[3] hello\n[3] \n");
  EXPECT_EQ(Read(err_[0]), "[0] error: x\nlaunch: two\nlaunch: lines\n");
}

TEST_F(JobOutputTest, AReaderThatDoesNotReadStopsNobodyAndIsToldWhatItMissed) {
  const std::string line(1000, 'x');
  for (int i = 0; i < 20'000; ++i) output_->Lines(0, JobOutput::Stream::kOut, line + "\n");
  EXPECT_FALSE(output_->is_flushed());
  std::string text;
  while (!output_->is_flushed()) {
    text += Read(out_[0]);
    loop_.After(1ms, [this] { loop_.Stop(); });
    loop_.Run();
  }
  text += Read(out_[0]);
  EXPECT_LT(text.size(), size_t{17} << 20);
  EXPECT_THAT(text.substr(0, 1001), EndsWith("\n"));
  EXPECT_THAT(text.substr(text.size() - 150),
              AllOf(HasSubstr("lines are not shown here"), EndsWith("\n")));
}

}  // namespace
}  // namespace strata::launch
