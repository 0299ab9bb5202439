// Ways through /sys's tree of devices.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "aio/drive.h"

namespace strata::aio {

// What one directory of a device tells, without looking below it.
BlockDevice ReadBlockDevice(const std::string& sysfs_path);
Drive ReadDrive(const std::string& sysfs_path, const PreflightRoots& roots);

// The nearest of the directory and those above it in `roots.sys` that has a file of this name.
std::optional<std::string> DirectoryAboveWith(std::string_view file, const std::string& sysfs_path,
                                              const PreflightRoots& roots);

// The real directories behind the links in a directory, sorted.
std::vector<std::string> LinkedDirectories(const std::string& directory);

// The real path; nothing where there is none.
std::optional<std::string> RealPath(const std::string& path);

}  // namespace strata::aio
