#include "tools/launch/secret.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "aio/base/descriptor.h"
#include "aio/file.h"
#include "tools/launch/sha256.h"

namespace strata::launch {
namespace {

constexpr size_t kMinCharacters = 16;

Result<std::string> Checked(std::string text, const std::string& source) {
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r' || text.back() == ' '))
    text.pop_back();
  if (text.size() < kMinCharacters) {
    return InvalidArgument(fmt::format(
        "{} has {} characters and can be guessed: at least {} are needed (openssl rand -hex 32)",
        source, text.size(), kMinCharacters));
  }
  return text;
}

Result<std::string> ReadSecret(const std::string& path) {
  struct stat facts = {};
  if (stat(path.c_str(), &facts) != 0) return ErrnoStatus(errno, path);
  if ((facts.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
    return FailedPrecondition(fmt::format(
        "{} can be read by others, who could then run commands as you: chmod 600 {}", path, path));
  }
  if (facts.st_uid != geteuid())
    return FailedPrecondition(fmt::format("{} belongs to another user", path));
  STRATA_ASSIGN_OR_RETURN(std::string text, aio::ReadSmallFile(path, 4096));
  return Checked(std::move(text), path);
}

// Whole or not at all, and only once, also when several nodes do it in one shared home.
Status MakeSecret(const std::string& path) {
  std::error_code error;
  const std::filesystem::path directory = std::filesystem::path(path).parent_path();
  std::filesystem::create_directories(directory, error);
  if (error) return ErrnoStatus(error.value(), "make " + directory.string());
  STRATA_ASSIGN_OR_RETURN(const Digest digest, RandomDigest());
  const std::string text = ToHex(digest) + "\n";
  std::string temporary = path + ".XXXXXX";
  const Descriptor file(mkostemp(temporary.data(), O_CLOEXEC));  // mode 0600
  if (!file.is_open()) return ErrnoStatus(errno, "make " + temporary);
  Status status;
  if (write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()) ||
      fsync(file.get()) != 0) {
    status = ErrnoStatus(errno, "write " + temporary);
  } else if (link(temporary.c_str(), path.c_str()) != 0 && errno != EEXIST) {
    status = ErrnoStatus(errno, "make " + path);
  }
  unlink(temporary.c_str());
  return status;
}

}  // namespace

Result<Secret> FindSecret(const std::string& secret_file, const Environment& environment) {
  const auto variable = [&](const char* name) -> std::string {
    const char* text = environment(name);
    return text == nullptr ? "" : text;
  };
  if (const std::string text = variable(kSecretVariable); !text.empty()) {
    STRATA_ASSIGN_OR_RETURN(std::string checked, Checked(text, kSecretVariable));
    return Secret{std::move(checked), kSecretVariable};
  }
  std::string path = secret_file;
  if (path.empty()) {
    const std::string config = variable("XDG_CONFIG_HOME");
    const std::string home = variable("HOME");
    if (config.empty() && home.empty()) {
      return InvalidArgument(fmt::format(
          "no secret that nodes could know each other by: set {} to the same on every node, or "
          "give --secret-file",
          kSecretVariable));
    }
    path = (config.empty() ? home + "/.config" : config) + "/strata/launch-secret";
    if (access(path.c_str(), F_OK) != 0) STRATA_RETURN_IF_ERROR(MakeSecret(path));
  }
  STRATA_ASSIGN_OR_RETURN(std::string text, ReadSecret(path).With("secret of the nodes"));
  return Secret{std::move(text), path};
}

std::string TokenOfJob(const Secret& secret, const std::string& nonce) {
  return ToHex(HmacSha256(secret.text, "ranks of the job " + nonce));
}

}  // namespace strata::launch
