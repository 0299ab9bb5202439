#include "tiering/internal/drives.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <filesystem>
#include <fstream>

namespace strata::tiering {
namespace {

namespace fs = std::filesystem;

// The first numa_node file on the way up from the device's own folder: a namespace has none, the
// controller above it does.
std::optional<uint32_t> NumaNodeOf(fs::path device) {
  for (; device.has_relative_path(); device = device.parent_path()) {
    std::ifstream file(device / "numa_node");
    int node = -1;
    if (file >> node && node >= 0) return static_cast<uint32_t>(node);
  }
  return std::nullopt;
}

void AddDrives(const fs::path& link, std::vector<Drive>& drives) {
  std::error_code error;
  fs::path device = fs::canonical(link, error);
  if (error) return;
  if (fs::exists(device / "partition", error)) device = device.parent_path();
  size_t before = drives.size();
  for (fs::directory_iterator slave(device / "slaves", error), end; !error && slave != end;
       slave.increment(error))
    AddDrives(slave->path(), drives);
  if (drives.size() == before) drives.push_back({device.filename(), NumaNodeOf(device)});
}

}  // namespace

std::vector<Drive> DrivesBelow(const std::string& path) {
  std::vector<Drive> drives;
  struct stat file = {};
  if (stat(path.c_str(), &file) == 0)
    AddDrives(fmt::format("/sys/dev/block/{}:{}", major(file.st_dev), minor(file.st_dev)), drives);
  return drives;
}

}  // namespace strata::tiering
