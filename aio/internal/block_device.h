// A whole drive or partition as a file.
#pragma once

#include <cstdint>
#include <string>

#include "aio/base/status.h"

namespace strata::aio {

bool IsBlockDevice(const std::string& path);
bool IsBlockDevice(int fd);

// Why a device that is opened to be written to, and with O_EXCL, is EBUSY.
Status BlockDeviceInUse(const std::string& path);

Result<uint64_t> BlockDeviceBytes(int fd, const std::string& path);

}  // namespace strata::aio
