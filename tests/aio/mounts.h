// Small file systems with a will of their own. Mounting needs privileges: without them tests skip.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>

namespace strata {

class TemporaryMount {
 public:
  // `size` as mount(8) takes it: "1m". Null when mounting is refused.
  static std::unique_ptr<TemporaryMount> Tmpfs(const std::string& at, const std::string& size) {
    std::filesystem::create_directory(at);
    if (!Run(fmt::format("mount -t tmpfs -o size={} tmpfs {}", size, at))) return nullptr;
    return std::unique_ptr<TemporaryMount>(new TemporaryMount(at));
  }

  // An ext4 on an image file beside `at`, which image() names.
  static std::unique_ptr<TemporaryMount> Ext4(const std::string& at, uint64_t size_bytes,
                                              const std::string& mkfs_options) {
    std::filesystem::create_directory(at);
    std::string image = at + ".image";
    bool mounted = Run(fmt::format("truncate -s {} {}", size_bytes, image)) &&
                   Run(fmt::format("mkfs.ext4 -q -F {} {}", mkfs_options, image)) &&
                   Run(fmt::format("mount -o loop {} {}", image, at));
    if (!mounted) return nullptr;
    return std::unique_ptr<TemporaryMount>(new TemporaryMount(at));
  }

  ~TemporaryMount() { Run("umount -l " + at_); }

  std::string File(const std::string& name) const { return at_ + "/" + name; }
  std::string image() const { return at_ + ".image"; }

 private:
  explicit TemporaryMount(std::string at) : at_(std::move(at)) {}
  static bool Run(const std::string& command) {
    return std::system((command + " >/dev/null 2>&1").c_str()) == 0;
  }

  std::string at_;
};

}  // namespace strata

#define STRATA_MOUNT_OR_SKIP(mount, expression) \
  auto mount = (expression);                    \
  if (!mount) GTEST_SKIP() << "mounting is refused here (needs root and loop devices)"
