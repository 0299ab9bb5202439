// Small drives and file systems with a will of their own. They need privileges: without them tests
// skip.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
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

  // An ext4 made on a block device.
  static std::unique_ptr<TemporaryMount> Ext4On(const std::string& device, const std::string& at) {
    std::filesystem::create_directory(at);
    if (!Run(fmt::format("mkfs.ext4 -q -F {0} && mount {0} {1}", device, at))) return nullptr;
    return std::unique_ptr<TemporaryMount>(new TemporaryMount(at));
  }

  bool Remount(const std::string& options) const {
    return Run(fmt::format("mount -o remount,{} {}", options, at_));
  }

  ~TemporaryMount() { Run("umount -l " + at_); }

  const std::string& at() const { return at_; }
  std::string File(const std::string& name) const { return at_ + "/" + name; }
  std::string image() const { return at_ + ".image"; }

 private:
  explicit TemporaryMount(std::string at) : at_(std::move(at)) {}
  static bool Run(const std::string& command) {
    return std::system((command + " >/dev/null 2>&1").c_str()) == 0;
  }

  std::string at_;
};

// A drive that is a file.
class TemporaryLoop {
 public:
  // Null when loop devices are refused.
  static std::unique_ptr<TemporaryLoop> Attach(const std::string& image, uint64_t size_bytes,
                                               uint32_t sector_bytes) {
    std::string make = fmt::format(
        "truncate -s {1} {0} && losetup --find --show --sector-size {2} {0} 2>/dev/null", image,
        size_bytes, sector_bytes);
    FILE* pipe = popen(make.c_str(), "r");
    if (pipe == nullptr) return nullptr;
    char device[64] = {};
    bool told = std::fscanf(pipe, "%63s", device) == 1;
    if (pclose(pipe) != 0 || !told) return nullptr;
    return std::unique_ptr<TemporaryLoop>(new TemporaryLoop(device));
  }

  ~TemporaryLoop() {
    if (std::system(fmt::format("losetup -d {} >/dev/null 2>&1", device_).c_str()) != 0)
      ADD_FAILURE() << device_ << " is left behind";
  }

  const std::string& device() const { return device_; }

 private:
  explicit TemporaryLoop(std::string device) : device_(std::move(device)) {}

  std::string device_;
};

}  // namespace strata

#define STRATA_LOOP_OR_SKIP(loop, expression) \
  auto loop = (expression);                   \
  if (!loop) GTEST_SKIP() << "loop devices are refused here (they need root)"
#define STRATA_MOUNT_OR_SKIP(mount, expression) \
  auto mount = (expression);                    \
  if (!mount) GTEST_SKIP() << "mounting is refused here (needs root and loop devices)"
