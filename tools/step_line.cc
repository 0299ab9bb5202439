#include "tools/step_line.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <string_view>

#include "tools/human.h"

namespace strata::tools {
namespace {

constexpr std::string_view kGap = "  ";
constexpr size_t kMinBar = 10;
constexpr size_t kMaxBar = 30;
constexpr int kLastRank = 9;

struct Field {
  std::string text;
  int rank;  // where room is short, fields of a higher rank are left out first
};
using Fields = std::array<Field, 10>;

// The sign and the kind of what is not a number say nothing.
std::string NormText(double norm) {
  return std::isfinite(norm) ? fmt::format("|g| {:.3g}", norm) : "|g| not finite";
}

std::string ScaleText(const StepReport& report) {
  if (!report.loss_scale) return {};
  if (report.skipped) return fmt::format("overflow at scale {:g}: skipped", *report.loss_scale);
  return fmt::format("scale {:g}", *report.loss_scale);
}

Fields FieldsOf(const StepReport& report) {
  std::string total = fmt::format("{}", report.total_steps);
  return {{
      {fmt::format("step {:>{}}/{}", report.step, total.size(), total), 0},
      {fmt::format("loss {:.4f}", report.loss), 1},
      {ScaleText(report), 9},
      {fmt::format("lr {:.2e}", report.learning_rate), 6},
      {NormText(report.grad_norm), 7},
      {FormatCount(report.tokens_per_s) + " tok/s", 3},
      {"eta " + FormatDuration(std::chrono::duration<double>(report.seconds_left)), 2},
      {fmt::format("nvme R {:.2f} W {:.2f} GB/s", report.read_gb_per_s, report.write_gb_per_s), 4},
      {fmt::format("h2d {:.2f} d2h {:.2f} GB/s", report.h2d_gb_per_s, report.d2h_gb_per_s), 8},
      {fmt::format("stall {:.0f}%", 100 * report.stall_fraction), 5},
  }};
}

std::string Join(const Fields& fields) {
  std::string line;
  for (const Field& field : fields) {
    if (field.text.empty()) continue;
    if (!line.empty()) line += kGap;
    line += field.text;
  }
  return line;
}

// Clears the fields that have no room.
void Fit(Fields& fields, size_t width) {
  for (int rank = kLastRank; rank > 0 && DisplayWidth(Join(fields)) > width; --rank) {
    auto last = std::find_if(fields.begin(), fields.end(),
                             [rank](const Field& field) { return field.rank == rank; });
    last->text.clear();
  }
}

std::string Bar(const StepReport& report, size_t width, Colour colour) {
  size_t room = width - 2;
  double done = report.total_steps == 0
                    ? 0
                    : static_cast<double>(report.step) / static_cast<double>(report.total_steps);
  size_t filled = static_cast<size_t>(std::clamp(done, 0.0, 1.0) * static_cast<double>(room));
  std::string bar(filled, '#');
  if (colour == Colour::kAnsi) bar = "\x1b[32m" + bar + "\x1b[0m";
  return "[" + bar + std::string(room - filled, '.') + "]";
}

}  // namespace

std::string PlainStepLine(const StepReport& report) { return Join(FieldsOf(report)); }

std::string TerminalStepLine(const StepReport& report, size_t width, Colour colour) {
  Fields fields = FieldsOf(report);
  Fit(fields, width);
  std::string line = Join(fields);
  if (line.size() > width) return line.substr(0, width);
  size_t room = width - line.size();
  if (room < kGap.size() + kMinBar) return line;
  return Bar(report, std::min(room - kGap.size(), kMaxBar), colour) + std::string(kGap) + line;
}

}  // namespace strata::tools
