#include <fmt/format.h>

#include <algorithm>

#include "aio/base/units.h"
#include "aio/internal/attribute.h"
#include "aio/internal/preflight/findings.h"

namespace strata::aio {
namespace {

constexpr std::string_view kHugePages = "/kernel/mm/transparent_hugepage/";

std::optional<uint64_t> MemoryField(const std::string& text, std::string_view name) {
  std::optional<std::string> field = FieldOf(text, name);
  if (!field) return std::nullopt;
  std::vector<std::string> words = SplitWords(*field);
  if (words.size() != 2 || words[1] != "kB") return std::nullopt;
  std::optional<uint64_t> kib = ParseNumber(words[0]);
  if (!kib || *kib >= 1ULL << 50) return std::nullopt;
  return *kib * 1_KiB;
}

Finding HugePages(const PreflightRoots& roots) {
  const Topic topic = {"huge_pages", "huge pages"};
  std::string file = roots.sys + std::string(kHugePages) + "enabled";
  std::optional<std::string> chosen = ChosenWord(ReadAttribute(file).value_or(""));
  if (chosen == "always" || chosen == "madvise") return topic.Fine(*chosen);
  if (chosen != "never") return topic.Unknown();
  return topic.Problem(
      "never",
      "Direct I/O works page by page: with 4 KiB pages it costs several times the "
      "cores, and on fast drives bandwidth. Strata asks for huge pages for its own "
      "buffers only, which 'madvise' allows.",
      "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled");
}

Finding Defrag(const PreflightRoots& roots) {
  const Topic topic = {"huge_page_defrag", "making of huge pages"};
  std::string file = roots.sys + std::string(kHugePages) + "defrag";
  std::optional<std::string> chosen = ChosenWord(ReadAttribute(file).value_or(""));
  if (chosen == "always" || chosen == "madvise" || chosen == "defer+madvise")
    return topic.Fine(*chosen);
  if (chosen != "never" && chosen != "defer") return topic.Unknown();
  return topic.Note(
      *chosen,
      "The kernel gives huge pages only where they lie ready, which on a machine that "
      "has run for a while is rarely.",
      "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/defrag");
}

Finding Available(const PreflightRoots& roots) {
  const Topic topic = {"memory", "memory available"};
  std::string text = ReadAttribute(roots.proc + "/meminfo").value_or("");
  std::optional<uint64_t> available_bytes = MemoryField(text, "MemAvailable:");
  std::optional<uint64_t> total_bytes = MemoryField(text, "MemTotal:");
  if (!available_bytes || !total_bytes) return topic.Unknown();
  std::string value =
      fmt::format("{} of {}", FormatBytes(*available_bytes), FormatBytes(*total_bytes));
  if (*available_bytes >= 1_GiB) return topic.Fine(value);
  return topic.Note(value, "There is little memory for buffers: end what is not needed.",
                    "ps aux --sort=-rss | head");
}

}  // namespace

std::vector<Finding> MemoryFindings(const PreflightRoots& roots) {
  return {HugePages(roots), Defrag(roots), Available(roots), CgroupMemoryFinding(roots)};
}

Finding LibaioFinding(const PreflightRoots& roots) {
  const Topic topic = {"libaio", "libaio"};
  std::optional<uint64_t> used = ReadNumber(roots.proc + "/sys/fs/aio-nr");
  std::optional<uint64_t> limit = ReadNumber(roots.proc + "/sys/fs/aio-max-nr");
  if (!used || !limit) return topic.Unknown();
  uint64_t left = *limit - std::min(*used, *limit);
  std::string value = fmt::format("room for {} of {} requests", left, *limit);
  if (left >= 4096) return topic.Fine(value);
  return topic.Note(
      value,
      "All processes of the machine share that room; an engine with the backend libaio "
      "is refused when it is used up.",
      "sudo sysctl fs.aio-max-nr=1048576");
}

}  // namespace strata::aio
