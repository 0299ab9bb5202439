#include "tools/step_line.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>

namespace strata::tools {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

StepReport Report() {
  return {.step = 12,
          .total_steps = 100,
          .loss = 5.43214,
          .learning_rate = 3e-4,
          .grad_norm = 1.234,
          .tokens_per_s = 12'345,
          .seconds_left = 192,
          .read_gb_per_s = 2.5,
          .write_gb_per_s = 1.75,
          .h2d_gb_per_s = 3.25,
          .d2h_gb_per_s = 1.125,
          .stall_fraction = 0.042};
}

TEST(StepLineTest, Fp16SaysItsScaleAndWhatItSkipped) {
  StepReport report = Report();
  EXPECT_EQ(PlainStepLine(report).find("scale"), std::string::npos);
  report.loss_scale = 65536;
  EXPECT_NE(PlainStepLine(report).find("  scale 65536  "), std::string::npos);
  report.skipped = true;
  EXPECT_NE(PlainStepLine(report).find("  overflow at scale 65536: skipped  "), std::string::npos);
}

TEST(StepLineTest, ANormThatIsNotANumberIsSaidNotToBeFinite) {
  StepReport report = Report();
  report.grad_norm = -std::nan("");
  EXPECT_THAT(PlainStepLine(report), HasSubstr("|g| not finite"));
  report.grad_norm = std::numeric_limits<double>::infinity();
  EXPECT_THAT(PlainStepLine(report), HasSubstr("|g| not finite"));
}

TEST(StepLineTest, ThePlainLineHasEverything) {
  EXPECT_EQ(PlainStepLine(Report()),
            "step  12/100  loss 5.4321  lr 3.00e-04  |g| 1.23  12.3k tok/s  eta 3 min 12 s  "
            "nvme R 2.50 W 1.75 GB/s  h2d 3.25 d2h 1.12 GB/s  stall 4%");
}

TEST(StepLineTest, AWideTerminalShowsEverythingBehindABar) {
  EXPECT_EQ(TerminalStepLine(Report(), 200, Colour::kNone),
            "[###.........................]  " + PlainStepLine(Report()));
}

TEST(StepLineTest, ANarrowTerminalShowsWhatMattersMost) {
  EXPECT_EQ(TerminalStepLine(Report(), 79, Colour::kNone),
            "step  12/100  loss 5.4321  12.3k tok/s  eta 3 min 12 s  nvme R 2.50 W 1.75 GB/s");
  EXPECT_EQ(TerminalStepLine(Report(), 72, Colour::kNone),
            "[#.............]  step  12/100  loss 5.4321  12.3k tok/s  eta 3 min 12 s");
  EXPECT_EQ(TerminalStepLine(Report(), 30, Colour::kNone), "step  12/100  loss 5.4321");
}

TEST(StepLineTest, NoLineIsWiderThanTheTerminal) {
  for (size_t width = 0; width < 220; ++width)
    EXPECT_LE(TerminalStepLine(Report(), width, Colour::kNone).size(), width);
}

TEST(StepLineTest, ColoursTakeNoRoomAndAreLeftOutOnRequest) {
  std::string colourful = TerminalStepLine(Report(), 200, Colour::kAnsi);
  EXPECT_THAT(colourful, StartsWith("[\x1b[32m###\x1b[0m......"));
  EXPECT_EQ(colourful.size(), TerminalStepLine(Report(), 200, Colour::kNone).size() + 9);
  EXPECT_THAT(TerminalStepLine(Report(), 200, Colour::kNone), Not(HasSubstr("\x1b")));
}

TEST(StepLineTest, TheBarIsFullAtTheLastStep) {
  StepReport report = Report();
  report.step = report.total_steps;
  EXPECT_THAT(TerminalStepLine(report, 200, Colour::kNone),
              StartsWith("[" + std::string(28, '#') + "]"));
}

TEST(StepLineTest, ALossThatIsNotANumberIsShownAsSuch) {
  StepReport report = Report();
  report.loss = NAN;
  report.seconds_left = -1;
  EXPECT_THAT(PlainStepLine(report), HasSubstr("loss nan"));
  EXPECT_THAT(PlainStepLine(report), HasSubstr("eta ?"));
}

}  // namespace
}  // namespace strata::tools
