#include "engine/train/run_directory.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <random>

#include "aio/file.h"

namespace strata::engine {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMetricsLimitBytes = 4ULL << 30;

std::string IdPath(const std::string& directory) { return directory + "/run_id"; }
std::string MetricsPath(const std::string& directory) { return directory + "/metrics.jsonl"; }

Status MakeDirectory(const std::string& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (!error) return OkStatus();
  return ErrnoStatus(error.value(), "create directory " + path);
}

Status RemoveAll(const std::string& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (!error) return OkStatus();
  return ErrnoStatus(error.value(), "remove " + path);
}

// The run's name plus random bits: two runs of one name never meet on a drive.
std::string NewRunId(const std::string& path) {
  std::random_device random;
  std::string name = fs::path(path).filename().string();
  for (char& c : name) {
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '-' && c != '_') c = '_';
  }
  return fmt::format("{}-{:08x}", name, random());
}

Status WriteAll(int fd, std::string_view text, const std::string& path) {
  while (!text.empty()) {
    ssize_t written = write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return ErrnoStatus(errno, "append to " + path);
    text.remove_prefix(static_cast<size_t>(written));
  }
  return OkStatus();
}

// The step of a metrics line, which begins {"step":N, ; 0 if it is torn.
uint64_t StepOfLine(std::string_view line) {
  constexpr std::string_view kPrefix = "{\"step\":";
  uint64_t step = 0;
  if (!line.starts_with(kPrefix) || !line.ends_with('}')) return 0;
  std::from_chars(line.data() + kPrefix.size(), line.data() + line.size(), step);
  return step;
}

}  // namespace

bool RunDirectory::HoldsRun(const std::string& path) {
  std::error_code ignored;
  return fs::exists(IdPath(path), ignored);
}

Status RunDirectory::CheckFree(const std::string& path) {
  if (!HoldsRun(path)) return OkStatus();
  return Status(Code::kAlreadyExists,
                fmt::format("{} holds a run already: continue it with --resume, replace it with "
                            "--overwrite, or choose another [train] run_dir",
                            path));
}

Result<RunDirectory> RunDirectory::Create(const std::string& path) {
  STRATA_RETURN_IF_ERROR(CheckFree(path));
  STRATA_RETURN_IF_ERROR(MakeDirectory(path));
  RunDirectory directory(path, NewRunId(path));
  STRATA_RETURN_IF_ERROR(aio::WriteFileAtomically(IdPath(path), directory.run_id_));
  return directory;
}

Result<RunDirectory> RunDirectory::Open(const std::string& path) {
  if (!HoldsRun(path)) {
    return NotFound(fmt::format("{} holds no run (no file run_id in it)", path));
  }
  STRATA_ASSIGN_OR_RETURN(std::string id, aio::ReadSmallFile(IdPath(path), 4096));
  return RunDirectory(path, std::move(id));
}

bool RunDirectory::HasConfig() const {
  std::error_code ignored;
  return fs::exists(ConfigPath(), ignored);
}

Result<RunDirectory> RunDirectory::OpenOrAdopt(const std::string& path, const std::string& run_id) {
  if (!HoldsRun(path)) {
    STRATA_RETURN_IF_ERROR(MakeDirectory(path));
    STRATA_RETURN_IF_ERROR(aio::WriteFileAtomically(IdPath(path), run_id));
  }
  STRATA_ASSIGN_OR_RETURN(RunDirectory directory, Open(path));
  if (directory.run_id() == run_id) return directory;
  return FailedPrecondition(
      fmt::format("{} holds run {} here and run {} on rank 0: remove it here, or choose another "
                  "[train] run_dir",
                  path, directory.run_id(), run_id));
}

Status RunDirectory::WriteConfig(std::string_view toml) const {
  return aio::WriteFileAtomically(ConfigPath(), toml);
}

Status RunDirectory::WritePlan(std::string_view json) const {
  return aio::WriteFileAtomically(path_ + "/plan.json", json);
}

Status RunDirectory::WriteTrace(std::string_view json) const {
  return aio::WriteFileAtomically(path_ + "/trace.json", json);
}

Status RunDirectory::AppendMetrics(std::string_view json_line) const {
  std::string path = MetricsPath(path_);
  int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd < 0) return ErrnoStatus(errno, "open " + path);
  Status status = WriteAll(fd, std::string(json_line) + "\n", path);
  if (close(fd) != 0 && status.ok()) status = ErrnoStatus(errno, "close " + path);
  return status;
}

Status RunDirectory::TruncateMetrics(uint64_t step) const {
  Result<std::string> text = aio::ReadSmallFile(MetricsPath(path_), kMetricsLimitBytes);
  if (!text.ok() && text.status().code() == Code::kNotFound) return OkStatus();
  if (!text.ok()) return text.status();
  std::string kept;
  std::string_view rest = *text;
  // What has no newline behind it was torn by a kill.
  for (size_t end; (end = rest.find('\n')) != std::string_view::npos; rest.remove_prefix(end + 1)) {
    std::string_view line = rest.substr(0, end);
    uint64_t line_step = StepOfLine(line);
    if (line_step > 0 && line_step <= step) kept.append(line).append("\n");
  }
  return aio::WriteFileAtomically(MetricsPath(path_), kept);
}

std::string RunDirectory::CheckpointPath(uint64_t step) const {
  return fmt::format("{}/checkpoints/step-{:06}", path_, step);
}

std::string RunDirectory::CheckpointManifestPath(uint64_t step) const {
  return CheckpointPath(step) + "/manifest.json";
}

Status RunDirectory::WriteCheckpoint(uint64_t step, std::string_view json) const {
  STRATA_RETURN_IF_ERROR(MakeDirectory(CheckpointPath(step)));
  return aio::WriteFileAtomically(CheckpointManifestPath(step), json);
}

Status RunDirectory::RemoveCheckpoint(uint64_t step) const {
  return RemoveAll(CheckpointPath(step));
}

Result<std::set<uint64_t>> RunDirectory::CheckpointSteps() const {
  std::set<uint64_t> steps;
  std::error_code error;
  fs::directory_iterator entries(path_ + "/checkpoints", error);
  if (error == std::errc::no_such_file_or_directory) return steps;
  if (error) return ErrnoStatus(error.value(), "list " + path_ + "/checkpoints");
  constexpr std::string_view kPrefix = "step-";
  for (const fs::directory_entry& entry : entries) {
    std::string name = entry.path().filename().string();
    uint64_t step = 0;
    if (!name.starts_with(kPrefix)) continue;
    const char* end = name.data() + name.size();
    auto [stop, parse_error] = std::from_chars(name.data() + kPrefix.size(), end, step);
    if (parse_error == std::errc() && stop == end) steps.insert(step);
  }
  return steps;
}

Status RunDirectory::RemoveFiles() const {
  for (const char* name : {"checkpoints", "metrics.jsonl", "plan.json", "trace.json", "config.toml",
                           "stores.json", "run_id"}) {
    STRATA_RETURN_IF_ERROR(RemoveAll(fmt::format("{}/{}", path_, name)));
  }
  return OkStatus();
}

}  // namespace strata::engine
