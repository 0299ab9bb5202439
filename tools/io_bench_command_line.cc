#include "tools/io_bench_command_line.h"

#include <fmt/format.h>

#include <charconv>
#include <string>
#include <string_view>

namespace strata::tools {
namespace {

constexpr double kMaxSeconds = 86400;
constexpr uint32_t kMaxRuns = 100;

template <typename T>
std::string ErrorOf(const Result<T>& result) {
  return result.ok() ? "" : result.status().message();
}

bool ParseShare(std::string_view text, uint32_t& share) {
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), share);
  return error == std::errc() && end == text.data() + text.size() && share > 0 && share <= 1000;
}

Result<aio::Mix> ParseMix(const std::string& text) {
  size_t colon = text.find(':');
  aio::Mix mix;
  if (colon != std::string::npos &&
      ParseShare(std::string_view(text).substr(0, colon), mix.reads) &&
      ParseShare(std::string_view(text).substr(colon + 1), mix.writes))
    return mix;
  return InvalidArgument(
      fmt::format("'{}' is not a mix: write the shares of reads and writes as in 70:30", text));
}

void AddBytes(CLI::App* command, const char* name, uint64_t& bytes, const char* default_text,
              const char* help) {
  command
      ->add_option_function<std::string>(
          name, [&bytes](const std::string& text) { bytes = ParseBytes(text).value(); }, help)
      ->check([](const std::string& text) { return ErrorOf(ParseBytes(text)); })
      ->type_name("SIZE")
      ->default_str(default_text);
}

void AddEngine(CLI::App* command, IoBenchArguments& arguments) {
  command
      ->add_option_function<std::string>(
          "--engine",
          [&arguments](const std::string& text) {
            if (text != "auto") arguments.engine = aio::ParseIoBackend(text).value();
          },
          "io_uring, libaio, posix, or auto: the best there is")
      ->check([](const std::string& text) {
        return text == "auto" ? "" : ErrorOf(aio::ParseIoBackend(text));
      })
      ->type_name("NAME")
      ->default_str("auto");
}

void AddTraffic(CLI::App* command, IoBenchArguments& arguments) {
  command->add_flag("--read", arguments.read, "measure reads");
  command->add_flag("--write", arguments.write, "measure writes");
  command
      ->add_option_function<std::string>(
          "--mixed",
          [&arguments](const std::string& text) { arguments.mixed = ParseMix(text).value(); },
          "measure reads and writes at once, in this ratio of bytes")
      ->check([](const std::string& text) { return ErrorOf(ParseMix(text)); })
      ->type_name("R:W");
  command->add_flag("--random", arguments.random, "blocks in random order, each once a round");
}

void AddTarget(CLI::App* command, IoBenchArguments& arguments) {
  command
      ->add_option("--path", arguments.paths,
                   "a directory, file or block device; several are measured as one striped target")
      ->type_name("PATH")
      ->default_str(".");
  AddBytes(command, "--size", arguments.size_bytes, "1GiB", "data in all, over all paths");
  command->add_flag("--equal-stripes", arguments.equal_stripes,
                    "several paths share equally, not by their speed");
  command->add_flag("--destroy-data", arguments.destroy_data,
                    "files and devices named with --path may be overwritten");
}

void AddSetting(CLI::App* command, IoBenchArguments& arguments) {
  AddBytes(command, "--block-size", arguments.block_size_bytes, "1MiB", "of each transfer");
  command->add_option("--queue-depth", arguments.queue_depth, "transfers in flight per thread")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  command->add_option("--threads", arguments.thread_count, "queues of the kernel to feed")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  AddEngine(command, arguments);
  command->add_flag("--sqpoll", arguments.sqpoll, "io_uring: a kernel thread takes submissions");
  command->add_flag("--iopoll", arguments.iopoll, "io_uring: completions are polled for");
  command->add_flag("--registered-files", arguments.registered_files,
                    "io_uring: the kernel looks the files up once");
  command->add_option("--device", arguments.device, "where the buffers are: cpu")
      ->check([](const std::string& text) {
        bool is_known = text == "cpu" || text.starts_with("cuda:");
        return is_known ? "" : fmt::format("'{}' is no device: choose cpu or cuda:N", text);
      })
      ->type_name("DEVICE")
      ->capture_default_str();
}

void AddMeasuring(CLI::App* command, IoBenchArguments& arguments) {
  command->add_option("--seconds", arguments.seconds, "measured for each kind of traffic")
      ->check(CLI::Range(0.01, kMaxSeconds))
      ->capture_default_str();
  command->add_option("--runs", arguments.runs, "that the seconds are split into")
      ->check(CLI::Range(1u, kMaxRuns))
      ->capture_default_str();
  CLI::Option* verify = command->add_flag(
      "--verify", arguments.verify, "check all data that is read, and read all that was written");
  command
      ->add_flag("--repeat-data", arguments.repeat_data,
                 "write the same bytes again: no CPU time goes into making data unique")
      ->excludes(verify);
  command->add_flag("--json", arguments.json, "print JSON");
}

}  // namespace

void AddIoBench(CLI::App& io, IoBenchArguments& arguments, std::function<int()>& chosen) {
  CLI::App* command = io.add_subcommand(
      "bench", "measure bandwidth, latency and CPU cost of reads, writes and both at once");
  AddTarget(command, arguments);
  AddSetting(command, arguments);
  AddTraffic(command, arguments);
  AddMeasuring(command, arguments);
  command->footer(
      "Without --read, --write or --mixed all are measured, the mix 50:50. In a directory the "
      "data\n"
      "is a file without a name, gone when the program is. Sizes are as in 4KiB, 1GiB.");
  command->callback(
      [&arguments, &chosen] { chosen = [&arguments] { return IoBench(arguments); }; });
}

}  // namespace strata::tools
