#include "tools/machine_facts.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <ctime>
#include <sstream>
#include <string_view>
#include <thread>

#include "aio/base/units.h"
#include "aio/file.h"

namespace strata::tools {
namespace {

std::string ProcessorName() {
  Result<std::string> text = aio::ReadSmallFile("/proc/cpuinfo", 64_MiB);
  if (!text.ok()) return "";
  std::istringstream lines(*text);
  for (std::string line; std::getline(lines, line);) {
    size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "";
}

std::string KernelName() {
  utsname name = {};
  if (uname(&name) != 0) return "";
  return fmt::format("{} {}", name.sysname, name.release);
}

std::string MemorySize() {
  long pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);
  if (pages <= 0 || page_bytes <= 0) return "";
  return FormatBytes(static_cast<uint64_t>(pages) * static_cast<uint64_t>(page_bytes));
}

bool IsPlain(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) ||
         std::string_view("-_./=:,+@%").find(c) != std::string_view::npos;
}

std::string Quoted(std::string_view word) {
  bool is_plain = !word.empty();
  for (char c : word) is_plain = is_plain && IsPlain(c);
  if (is_plain) return std::string(word);
  std::string quoted = "'";
  for (char c : word) quoted += c == '\'' ? "'\\''" : std::string(1, c);
  return quoted + "'";
}

}  // namespace

std::vector<std::pair<std::string, std::string>> MachineFacts() {
  std::vector<std::pair<std::string, std::string>> facts;
  auto add = [&](std::string what, std::string which) {
    if (!which.empty()) facts.emplace_back(std::move(what), std::move(which));
  };
  add("processor", ProcessorName());
  add("cores", fmt::format("{}", std::thread::hardware_concurrency()));
  add("memory", MemorySize());
  add("kernel", KernelName());
  return facts;
}

std::string CommandLineOfThisProgram() {
  Result<std::string> words = aio::ReadSmallFile("/proc/self/cmdline", 16_MiB);
  if (!words.ok()) return "";
  std::string command;
  std::istringstream stream(*words);
  for (std::string word; std::getline(stream, word, '\0');)
    command += (command.empty() ? "" : " ") + Quoted(word);
  return command;
}

std::string NowInWords() {
  return fmt::format("{:%Y-%m-%d %H:%M} UTC", fmt::gmtime(std::time(nullptr)));
}

}  // namespace strata::tools
