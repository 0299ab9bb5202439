// A machine that is not this one, as far as /sys and /proc tell of it.
#pragma once

#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <string>

#include "aio/preflight_roots.h"
#include "tests/aio/scratch.h"

namespace strata::aio {

class FakeMachine {
 public:
  FakeMachine() {
    for (const char* tree : {"sys", "proc/self", "dev"})
      std::filesystem::create_directories(At(tree));
  }

  PreflightRoots roots() const { return {At("sys"), At("proc"), At("dev")}; }
  std::string At(const std::string& path) const { return directory_.File(path); }

  void Write(const std::string& path, const std::string& content) {
    std::filesystem::create_directories(std::filesystem::path(At(path)).parent_path());
    // A new file: ext4 flushes one that is truncated, which takes its time.
    std::filesystem::remove(At(path));
    std::ofstream(At(path)) << content << "\n";
  }

  void Link(const std::string& from, const std::string& to) {
    std::filesystem::create_directories(std::filesystem::path(At(from)).parent_path());
    std::filesystem::create_symlink(At(to), At(from));
  }

  // A device in `home`, "sys/devices/pci0000:00/nvme/nvme0", with files below it.
  void AddDevice(const std::string& home, const std::string& name, const std::string& number,
                 const std::map<std::string, std::string>& files) {
    std::string path = home + "/" + name;
    Write(path + "/dev", number);
    for (const auto& [file, content] : files) Write(path + "/" + file, content);
    Link("sys/dev/block/" + number, path);
    Link("sys/class/block/" + name, path);
  }

  void AddNvme(const std::string& name, const std::string& number, int numa_node) {
    std::string bus = "sys/devices/pci0000:00/" + name;
    Write(bus + "/numa_node", fmt::format("{}", numa_node));
    AddDevice(bus + "/nvme", name, number,
              {{"queue/rotational", "0"},
               {"queue/scheduler", "[none] mq-deadline kyber bfq"},
               {"queue/logical_block_size", "512"},
               {"queue/physical_block_size", "4096"},
               {"queue/io_poll", "0"},
               {"queue/max_segments", "127"},
               {"queue/max_sectors_kb", "1280"},
               {"queue/max_hw_sectors_kb", "2048"},
               {"queue/nr_requests", "1023"},
               {"queue/write_cache", "write back"},
               {"device/model", "Fast SSD 4TB   "}});
  }

  // What every path is on.
  void MountRoot(const std::string& number, const std::string& type, const std::string& source,
                 const std::string& options) {
    mounts_ +=
        fmt::format("22 1 {} / / rw,relatime shared:1 - {} {} {}\n", number, type, source, options);
    Write("proc/self/mountinfo", mounts_);
  }

  void MountCgroup2(const std::string& path_of_process) {
    mounts_ += "31 22 0:28 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n";
    Write("proc/self/mountinfo", mounts_);
    Write("proc/self/cgroup", "0::" + path_of_process);
  }

 private:
  ScratchDirectory directory_;
  std::string mounts_;
};

}  // namespace strata::aio
